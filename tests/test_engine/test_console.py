"""The screen of a run is short; its log file holds everything."""

import re

import pytest

from ..test_tools.runs import Here, write_images


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    write_images(tmp_path)
    return Here(monkeypatch, capsys, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('level', ['INFO', 'DEBUG'])
def test_the_first_loss_is_among_the_first_lines(here, level):
    here.run('write_config.py', '4,2,2|2,1,2|2,1,2|2,1,2|16', '--data', 'images', '--out', 'c.py')
    options = ('train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', f'log_level={level}')
    output = here.run('train.py', 'c.py', '--no-validate', '--cfg-options', *options)
    lines = output.splitlines()
    first = next(i for i, line in enumerate(lines) if 'loss: ' in line)
    log = next((here.folder / 'work_dirs' / 'c').glob('*/*.log')).read_text()
    details = ('System environment', 'Config:', 'before_train_epoch:', 'paramwise_options -- ')
    assert all(text in log for text in details)
    assert (first < 40) == (level == 'INFO')
    if level == 'INFO':
        assert not any(text in output for text in details)
        assert not re.search('deprecated|SyncBN|OneDL', output)
        assert str(here.folder) in lines[0]  # where the rest is
