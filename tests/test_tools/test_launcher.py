"""Searches and scaling runs whose measurements two real processes share, against those of one."""

import signal

import pytest
from PIL import Image

from .kills import files, stop
from .runs import ended, tool, torchrun

SIZE = ['--data', 'digits', '--img-size', '16', '--batch-size', '4', '--device', 'cpu']
RUNS = {
    'search.py': ('--work-dir', 'run', *SIZE, '--repeat', '3', '--steps', '5'),
    'scale.py': (
        *('8,2,3|4,1,2|4,1,4|4,1,6|32', '--work-dir', 'run', *SIZE, '--repeat', '1'),
        *('--min-params', '2.5M', '--max-params', '5M'),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_two_processes_write_what_one_writes(tmp_path, name):
    for folder in ('one', 'two'):
        (tmp_path / folder).mkdir()
    process = torchrun(name, *RUNS[name], cwd=tmp_path / 'two')
    done = tool(name, *RUNS[name], cwd=tmp_path / 'one')
    assert done.returncode == 0, done.stderr
    status, out, err = ended(process)
    assert status == 0, err
    assert out.count('architecture ') == done.stdout.count('architecture ') > 0
    one, two = (files(tmp_path / folder / 'run') for folder in ('one', 'two'))
    assert one == two
    assert (tmp_path / 'two' / 'run' / 'timing.jsonl').exists()


@pytest.mark.slow
def test_killed_with_two_processes_and_resumed_with_one(tmp_path):
    args = RUNS['search.py']
    for folder in ('whole', 'killed'):
        (tmp_path / folder).mkdir()
    process = torchrun('search.py', *args, cwd=tmp_path / 'killed')
    trace = tmp_path / 'killed' / 'run' / 'trace.jsonl'
    stop(process, trace=trace, lines=2, signal=signal.SIGTERM)
    assert not (tmp_path / 'killed' / 'run' / 'result.json').exists()
    done = tool('search.py', *args, '--resume', cwd=tmp_path / 'killed')
    assert done.returncode == 0, done.stderr
    assert 'resumed: ' in done.stdout
    assert tool('search.py', *args, cwd=tmp_path / 'whole').returncode == 0
    assert files(tmp_path / 'killed' / 'run') == files(tmp_path / 'whole' / 'run')


def test_without_torchrun_it_says_so(tmp_path):
    done = tool('search.py', '--launcher', 'pytorch', *RUNS['search.py'], cwd=tmp_path)
    assert done.returncode == 2
    assert 'error: --launcher pytorch without RANK in the environment' in done.stderr
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        # Found by every process; by the first one alone, while the others wait for work; at the end.
        (['--steps', '0'], '--steps 0 is too small'),
        (['--max-params', '1k'], '--max-params 1,000 is less than the smallest seed'),
        (['--data', 'same', '--steps', '1'], 'no network of the 1 steps could be measured'),
    ],
)
def test_a_refusal_ends_all_processes(tmp_path, args, words):
    (tmp_path / 'same').mkdir()
    for i in range(12):
        Image.new('RGB', (16, 16), 'red').save(tmp_path / 'same' / f'{i}.png')
    run = ('search.py', '--work-dir', 'run', *SIZE, '--repeat', '3', *args)
    status, _, err = ended(torchrun(*run, cwd=tmp_path))
    assert status != 0
    assert err.count('error: ') == 1
    assert words in err
    # torchrun adds a traceback of its own to whatever ends in an error.
    assert 'gloo' not in err
    assert err.count('Traceback') == 1


def test_an_error_of_the_second_process_alone_is_printed(tmp_path):
    args = ('--seeds', '2', '--steps', '2', '--reference', '2', '--work-dir', 'run', *SIZE)
    (tmp_path / 'run' / 'searches').mkdir(parents=True)
    # The second search is of the evolution, and the second process's.
    (tmp_path / 'run' / 'searches' / 'evolution-0').write_text('in the way')
    status, _, err = ended(torchrun('analysis_tools/compare_methods.py', *args, cwd=tmp_path))
    assert status != 0
    assert err.count('error: ') == 1
    assert "evolution-0' cannot be written" in err
