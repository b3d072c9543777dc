"""Searches and scaling runs whose measurements two real processes share, against those of one."""

import signal

import pytest
from PIL import Image

from .kills import files, stop
from .runs import Here, ended, tool, torchrun

SIZE = ['--data', 'digits', '--img-size', '16', '--batch-size', '4', '--device', 'cpu']
RUNS = {
    'search.py': ('--work-dir', 'run', *SIZE, '--repeat', '3', '--steps', '4'),
    'scale.py': (
        *('8,2,3|4,1,2|4,1,4|4,1,6|32', '--work-dir', 'run', *SIZE, '--repeat', '1'),
        *('--min-params', '2.2M', '--max-params', '5M'),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_two_processes_write_what_one_writes(tmp_path, monkeypatch, capsys, name):
    """Also where they are killed and one goes on."""
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
    process = torchrun(name, *RUNS[name], cwd=tmp_path / 'two')
    run = tmp_path / 'two' / 'run'
    if name == 'search.py':
        stop(process, trace=run / 'trace.jsonl', lines=2, signal=signal.SIGTERM)
        assert not (run / 'result.json').exists()
        done = tool(name, *RUNS[name], '--resume', cwd=tmp_path / 'two')
        assert done.returncode == 0, done.stderr
        assert 'resumed: ' in done.stdout
    else:
        status, out, err = ended(process)
        assert status == 0, err
        assert out.count('architecture ') == 2
    Here(monkeypatch, capsys, tmp_path / 'one').run(name, *RUNS[name])
    assert files(tmp_path / 'one' / 'run') == files(run)
    assert (run / 'timing.jsonl').exists()


def test_without_torchrun_it_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv('RANK', raising=False)
    here = Here(monkeypatch, capsys, tmp_path)
    line = here.refusal('search.py', '--launcher', 'pytorch', *RUNS['search.py'])
    assert '--launcher pytorch without RANK in the environment' in line
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_refusal_by_the_main_rank_ends_all_processes(tmp_path):
    (tmp_path / 'same').mkdir()
    for i in range(12):
        Image.new('RGB', (16, 16), 'red').save(tmp_path / 'same' / f'{i}.png')
    run = ('--work-dir', 'run', *SIZE, '--repeat', '3', '--data', 'same', '--steps', '1')
    status, _, err = ended(torchrun('search.py', *run, cwd=tmp_path))
    assert status != 0
    assert err.count('error: ') == 1
    assert 'no network of the 1 steps could be measured' in err
    # torchrun adds a traceback of its own to whatever ends in an error.
    assert 'gloo' not in err
    assert err.count('Traceback') == 1
