"""The comparison of search methods, run as users do, on tiny images."""

import json
import shutil

import pytest

from asvit_mm.analysis.compare_methods import run_comparison
from asvit_mm.analysis.settings import MethodsSettings
from asvit_mm.nas import METHODS

from .runs import TOOLS, Here, ended, torchrun

TOOL = 'analysis_tools/compare_methods.py'
STUDY = [
    '--seeds', '2', '--steps', '3', '--reference', '3', '--data', 'noise', '--img-size', '16',
    '--batch-size', '3', '--device', 'cpu',
]  # fmt: skip
FILES = ('report.json', 'report.md', 'comparison.png')
SEARCHES = sorted(f'{method}-{seed}' for method in METHODS for seed in (0, 1))


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    return Here(monkeypatch, capsys, tmp_path)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with a comparison in run/."""
    folder = tmp_path_factory.mktemp('compare')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_comparison(
            MethodsSettings(
                work_dir='run', seeds=2, steps=3, reference=3, data='noise', img_size=16,
                batch_size=3, device='cpu',
            ),
            TOOLS,
        )  # fmt: skip
    return folder


def records(work_dir):
    """The records, and what each search found, by name."""
    found = {path.name: path.read_bytes() for path in (work_dir / 'records').iterdir()}
    for name in SEARCHES:
        for file in ('trace.jsonl', 'result.json'):
            found[f'{name}/{file}'] = (work_dir / 'searches' / name / file).read_bytes()
    return found


def without_times(report):
    """The report's data but for the seconds of the searches."""
    for method in report['methods']:
        for figures in (method['mean'], method['std'], *(s['figures'] for s in method['searches'])):
            del figures['seconds']
    return report


def read_report(work_dir):
    return without_times(json.loads((work_dir / 'report.json').read_text()))


def test_comparison(finished):
    report = read_report(finished / 'run')
    assert [method['method'] for method in report['methods']] == list(METHODS)
    for method in report['methods']:
        assert [one['seed'] for one in method['searches']] == [0, 1]
        for one in method['searches']:
            folder = finished / 'run' / 'searches' / f'{method["method"]}-{one["seed"]}'
            result = json.loads((folder / 'result.json').read_text())
            assert result['arch'] == one['arch']
            assert result['settings']['method'] == method['method']
            trace = list(map(json.loads, (folder / 'trace.jsonl').read_text().splitlines()))
            assert one['figures']['measured'] == sum(not step['recalled'] for step in trace)
            # Measured with fresh weights: no value of the search comes again.
            seen = {step['length_distortion'] for step in trace}
            judged = next(r for r in report['records'] if r['arch'] == one['arch'])
            assert not seen & {measured['length_distortion'] for measured in judged['measured']}
    names = sorted(path.name for path in (finished / 'run' / 'searches').iterdir())
    assert names == sorted(f'{name}{end}' for name in SEARCHES for end in ('', '.log'))
    assert 'architecture' in (finished / 'run' / 'searches' / 'random-1.log').read_text()
    page = (finished / 'run' / 'report.md').read_text()
    assert 'tools/analysis_tools/compare_methods.py --work-dir run --data noise' in page
    assert '--seeds 2 --steps 3 --reference 3' in page
    assert (finished / 'run' / 'comparison.png').stat().st_size > 10_000


def test_random_seeds_are_measured_by_every_search_seed(finished):
    first = json.loads((finished / 'run' / 'records' / '000.json').read_text())
    assert len(first['measured']) == 2
    assert first['measured'][0] != first['measured'][1]


def test_half_done_and_resumed(finished, here):
    work_dir = here.folder / 'run'
    shutil.copytree(finished / 'run', work_dir)
    whole, report = records(work_dir), read_report(work_dir)
    # As a kill leaves it: random seeds measured, one search in the middle of a line, one not begun.
    study = json.loads((work_dir / 'study.json').read_text())
    study['architectures'] = study['architectures'][:3]
    (work_dir / 'study.json').write_text(json.dumps(study))
    for path in (work_dir / 'records').iterdir():
        if path.name > '002.json':
            path.unlink()
    shutil.rmtree(work_dir / 'searches' / SEARCHES[2])
    broken = work_dir / 'searches' / SEARCHES[1]
    (broken / 'result.json').unlink()
    trace = (broken / 'trace.jsonl').read_bytes()
    (broken / 'trace.jsonl').write_bytes(trace[: trace.index(b'\n') + 20])
    for name in FILES:
        (work_dir / name).unlink()
    out = here.run(TOOL, '--work-dir', 'run', *STUDY, '--resume')
    assert out.startswith('resumed: 3 of 3 architectures are done')
    assert records(work_dir) == whole
    assert read_report(work_dir) == report


@pytest.mark.slow
def test_over_two_processes(finished):
    status, out, err = ended(torchrun(TOOL, '--work-dir', 'two', *STUDY, cwd=finished))
    assert status == 0, err
    assert out.count('score: 50 is a random seed') == len(METHODS)
    assert records(finished / 'two') == records(finished / 'run')
    assert read_report(finished / 'two') == read_report(finished / 'run')


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--seeds', '1'], '--seeds 1 is too small: give at least 2'),
        (['--steps', '0'], '--steps 0 is too small'),
        (['--reference', '1'], '--reference 1 is too small'),
        (['--reference', '10001'], 'give at most 10000'),
        (['--data', 'nowhere'], "no data at 'nowhere'"),
        (['--launcher', 'pytorch'], 'without RANK in the environment'),
        (['--resume', '--overwrite'], 'give one'),
    ],
)
def test_refusals(here, args, words):
    here.monkeypatch.delenv('RANK', raising=False)
    assert words in here.refusal(TOOL, *STUDY, *args)
    assert not (here.folder / 'work_dirs' / 'compare' / 'study.json').exists()


def test_another_study_in_the_folder(finished, here):
    here.monkeypatch.chdir(finished)
    run = (TOOL, '--work-dir', 'run', *STUDY)
    assert 'exists already: give --resume' in here.refusal(*run)
    assert 'settings.steps is 3 there and 4 here' in here.refusal(*run, '--resume', '--steps', '4')
