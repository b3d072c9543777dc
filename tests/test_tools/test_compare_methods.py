"""The comparison of search methods, run as users do, on tiny images."""

import json
import shutil

import pytest

from asvit_mm.analysis import compare_methods
from asvit_mm.analysis.settings import MethodsSettings

from .runs import TOOLS, Here

TOOL = 'analysis_tools/compare_methods.py'
STUDY = [
    '--seeds', '2', '--steps', '3', '--reference', '3', '--data', 'noise', '--img-size', '16',
    '--batch-size', '3', '--device', 'cpu',
]  # fmt: skip
METHODS = ('evolution', 'random')
SEARCHES = sorted(f'{method}-{seed}' for method in METHODS for seed in (0, 1))


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(compare_methods, 'METHODS', METHODS)
    return Here(monkeypatch, capsys, tmp_path)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with a comparison of two methods in run/."""
    folder = tmp_path_factory.mktemp('compare')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(compare_methods, 'METHODS', METHODS)
        compare_methods.run_comparison(
            MethodsSettings(
                work_dir='run', seeds=2, steps=3, reference=3, data='noise', img_size=16,
                batch_size=3, device='cpu',
            ),
            TOOLS,
        )  # fmt: skip
    return folder


def files(work_dir):
    """The report, the records, and what each search found."""
    found = {path.name: path.read_bytes() for path in (work_dir / 'records').iterdir()}
    found['report.json'] = (work_dir / 'report.json').read_bytes()
    for name in SEARCHES:
        for file in ('trace.jsonl', 'result.json'):
            found[f'{name}/{file}'] = (work_dir / 'searches' / name / file).read_bytes()
    return found


@pytest.mark.slow
def test_comparison(finished):
    run = finished / 'run'
    report = json.loads((run / 'report.json').read_text())
    assert [f'{one["method"]}-{one["seed"]}' for one in report['searches']] == [
        f'{method}-{seed}' for seed in (0, 1) for method in METHODS
    ]
    for one in report['searches']:
        folder = run / 'searches' / f'{one["method"]}-{one["seed"]}'
        result = json.loads((folder / 'result.json').read_text())
        assert result['arch'] == one['arch']
        assert result['settings']['method'] == one['method']
        trace = list(map(json.loads, (folder / 'trace.jsonl').read_text().splitlines()))
        assert len(one['best']) == sum(not step['recalled'] for step in trace)
        # Measured by both seeds, with fresh weights: no value of the search comes again.
        record = json.loads((run / 'records' / f'{one["arch"].replace("|", "_")}.json').read_text())
        values = [measured['length_distortion'] for measured in record['measured']]
        assert len(set(values)) == 2
        assert not {step['length_distortion'] for step in trace} & set(values)
    names = sorted(path.name for path in (run / 'searches').iterdir())
    assert names == sorted(f'{name}{end}' for name in SEARCHES for end in ('', '.log'))
    assert 'architecture' in (run / 'searches' / 'random-1.log').read_text()
    page = (run / 'report.md').read_text()
    assert 'tools/analysis_tools/compare_methods.py --data noise --img-size 16 ' in page
    assert '--seeds 2 --steps 3 --reference 3' in page
    assert '| method | measured | best of 1 | best of 2 | best of 3 | result |' in page
    assert (run / 'comparison.png').stat().st_size > 10_000


@pytest.mark.slow
def test_half_done_and_resumed(finished, here):
    work_dir = here.folder / 'run'
    shutil.copytree(finished / 'run', work_dir)
    whole = files(work_dir)
    # As a kill leaves it: records missing, one search in the middle of a line.
    (work_dir / 'report.json').unlink()
    for path in list((work_dir / 'records').iterdir())[::2]:
        path.unlink()
    broken = work_dir / 'searches' / SEARCHES[1]
    (broken / 'result.json').unlink()
    trace = (broken / 'trace.jsonl').read_bytes()
    (broken / 'trace.jsonl').write_bytes(trace[: trace.index(b'\n') + 20])
    run = (TOOL, '--work-dir', 'run', *STUDY)
    out = here.run(*run, '--resume')
    assert '| random | 3 ± 0 |' in out
    assert files(work_dir) == whole
    assert 'settings.steps is 3 there and 4 here' in here.refusal(*run, '--resume', '--steps', '4')


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--seeds', '1'], '--seeds 1 is too small: give at least 2'),
        (['--reference', '1'], '--reference 1 is too small'),
        (['--reference', '10001'], 'give at most 10000'),
    ],
)
def test_refusals(here, args, words):
    here.monkeypatch.delenv('RANK', raising=False)
    assert words in here.refusal(TOOL, *STUDY, *args)
    assert not (here.folder / 'work_dirs' / 'compare' / 'study.json').exists()
