"""tools/misc/demo.py: a short run, and what it sums up."""

import json
import runpy
from pathlib import Path

import pytest

from asvit_mm.arch import as_architecture
from asvit_mm.config_writer.configs import config_text
from asvit_mm.config_writer.naming import RunConfigs
from asvit_mm.cost import count_params
from asvit_mm.data.source import describe_data

from ..pages import make_workplace
from .runs import TOOLS, Here

FIRST, SECOND = '4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,2|16,12', '4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16'


def test_an_earlier_demo_in_the_same_folder_is_not_summed_up(tmp_path):
    data, train = describe_data('digits', 32), tmp_path / 'train'
    series = RunConfigs(data, progressive=True)
    (train / '1' / 'vis_data').mkdir(parents=True)
    configs = []
    for arch in map(as_architecture, (FIRST, SECOND)):
        configs.append(train / Path(series.add(arch)['config']).name)
        configs[-1].write_text(config_text(arch, data, progressive=True))
    (train / '1' / '1.log').touch()
    (train / '1' / 'vis_data' / 'scalars.json').write_text(
        '{"loss": 1.0, "iter": 23, "epoch": 1, "step": 23}\n{"accuracy/top1": 90.0, "step": 1}\n'
    )
    (train / 'test.json').write_text(json.dumps({'accuracy/top1': 98.61}))
    (tmp_path / 'search').mkdir()
    (tmp_path / 'search' / 'result.json').write_text(json.dumps({'arch': 'a seed'}))
    summary = runpy.run_path(str(TOOLS / 'misc/demo.py'))['summary']
    for config, arch in zip(configs, (FIRST, SECOND), strict=True):
        lines = summary(tmp_path, config, 'epoch_40.pth', {'train': 7.0})
        assert lines['architecture'] == arch
        assert lines['parameters'] == f'{count_params(as_architecture(arch), 10, img_size=32):,}'
        assert lines['test accuracy'].startswith('98.61 %')
        assert lines['time to train'] == '7 s'
        assert lines['learning curve'] == str(train / 'learning_curve.png')
    assert (train / 'learning_curve.png').is_file()


@pytest.mark.slow
def test_from_the_search_to_the_summary(monkeypatch, capsys, tmp_path):
    here = Here(monkeypatch, capsys, make_workplace(tmp_path))
    few = [f'{part}_dataloader.dataset.indices=8' for part in ('train', 'val')]
    out = here.run(
        *('misc/demo.py', '--steps', 2, '--repeat', 1),
        *('--cfg-options', 'train_cfg.val_interval=60', *few),
    )
    demo = tmp_path / 'work_dirs/demo'
    rows = dict(line.split('  ', 1) for line in out.split('=== Results\n')[1].splitlines())
    assert (
        rows['seed found'].strip() == json.loads((demo / 'search/result.json').read_text())['arch']
    )
    for name in ('config', 'checkpoint', 'log', 'learning curve', 'search trace', 'scaling'):
        assert (tmp_path / rows[name].strip()).is_file()
