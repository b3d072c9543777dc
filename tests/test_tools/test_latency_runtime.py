"""--latency-runtime of tools/search.py and tools/scale.py, as users run them."""

import json
import sys
from importlib.metadata import version

import pytest

from .runs import TINY

RUN = ('--work-dir', 'run', '--data', 'digits', '--max-latency', 10_000)


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--latency-runtime', 'openvino'], '--latency-runtime is for --max-latency MS'),
        (['--latency-runtime', 'onnxruntime', '--max-latency', '0'], 'is no limit'),
    ],
)
def test_refusals(here, args, words):
    assert words in here.refusal('search.py', '--work-dir', 'run', '--device', 'cpu', *args)
    assert list(here.folder.iterdir()) == []


def test_a_runtime_that_is_not_installed(here, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    args = ('--latency-runtime', 'openvino', '--max-latency', '5', '--device', 'cpu')
    assert 'needs openvino, not installed: pip install' in here.refusal('search.py', *args)


@pytest.mark.slow
@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_a_budget_in_a_runtime_is_kept_and_resumed(here, runtime):
    pytest.importorskip(runtime)
    deployed = ('--latency-runtime', runtime)
    steps = ('--steps', 2, '--method', 'evolution')
    here.run('search.py', *RUN, *deployed, *steps, *TINY)
    folder = here.folder / 'run'
    result, run = (json.loads((folder / f).read_text()) for f in ('result.json', 'run.json'))
    assert result['latency_runtime'] == run['settings']['latency_runtime'] == runtime
    assert run['versions'][runtime] == version(runtime)
    assert 0 < result['latency_ms'] < 10_000
    assert f'in {runtime} were considered' in (folder / 'report.html').read_text()
    trace = (folder / 'trace.jsonl').read_bytes()
    first = trace[: trace.index(b'\n') + 1]
    for name in ('result.json', 'report.html'):
        (folder / name).unlink()
    (folder / 'trace.jsonl').write_bytes(first)
    line = here.refusal('search.py', *RUN, *steps, *TINY, '--resume')
    assert 'latency_runtime' in line
    here.run('search.py', *RUN, *deployed, *steps, *TINY, '--resume')
    assert (folder / 'trace.jsonl').read_bytes().startswith(first)
    assert json.loads((folder / 'result.json').read_text())['latency_runtime'] == runtime
