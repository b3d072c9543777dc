"""tools/analysis_tools/seed_percentiles.py run as users do, on tiny images."""

import json
import shutil

import pytest
import torch

from asvit_mm.analysis.seed_percentiles import run_study
from asvit_mm.analysis.settings import SeedPercentileSettings
from asvit_mm.analysis.statistics import mean_of
from asvit_mm.arch import Architecture
from asvit_mm.data.images import load_images
from asvit_mm.nas import ComplexityMeasure

OTHER = '4,2,2|2,1,2|2,1,2|2,1,2|16'
TOOL = 'analysis_tools/seed_percentiles.py'
STUDY = [
    '--num-archs', '4', '--data', 'noise', '--img-size', '16', '--batch-size', '3', '--repeat', '2',
    '--device', 'cpu',
]  # fmt: skip


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with a study in run/, and what it printed."""
    folder = tmp_path_factory.mktemp('seeds')
    (folder / 'result.json').write_text(json.dumps({'arch': OTHER}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_study(
            SeedPercentileSettings(
                work_dir='run', archs=('seed', 'found=result.json'), num_archs=4, data='noise', img_size=16,
                batch_size=3, repeat=2, device='cpu',
            )
        )  # fmt: skip
    return folder


def records(work_dir):
    return {path.name: path.read_bytes() for path in (work_dir / 'records').iterdir()}


def test_records_hold_what_a_search_of_another_seed_measures(finished):
    images = load_images('noise', 16, 6, 1_000_000).reshape(2, 3, 3, 16, 16)
    measure = ComplexityMeasure(images, 16, seed=1_000_000)
    found = list(map(json.loads, records(finished / 'run').values()))
    assert len(found) == 6
    for record in found[::2]:
        fields = next(measure([(Architecture.parse(record['name']), 0)])).to_record()
        assert fields == {name: mean_of(record[name]) for name in fields}
        assert all(len(record[name]) == 2 for name in fields)
    assert torch.get_num_threads() == 1


def test_report(finished):
    report = json.loads((finished / 'run' / 'report.json').read_text())
    assert [one['name'] for one in report['named']] == ['seed', 'found']
    assert report['named'][1]['arch'] == OTHER
    for one in report['named']:
        assert all(0 <= share <= 100 and share % 12.5 == 0 for share in one['percentiles'])
    page = (finished / 'run' / 'report.md').read_text()
    assert 'tools/analysis_tools/seed_percentiles.py seed found=result.json ' in page
    assert ' --num-archs 4' in page
    assert '| reliability of 1 | reliability of 2 |' in page
    assert (finished / 'run' / 'scatter.png').stat().st_size > 10_000


def test_half_done_and_resumed_with_another_seed(finished, here):
    shutil.copytree(finished, here.folder, dirs_exist_ok=True)
    half = here.folder / 'run'
    whole = records(half)
    for path in (half / 'report.md', *list((half / 'records').iterdir())[::2]):
        path.unlink()
    third = '5,2,2|2,1,2|2,1,2|2,1,2|16'
    run = (TOOL, 'found=result.json', f'third={third}', *STUDY, '--work-dir', 'run', '--resume')
    assert 'resumed: ' in here.run(*run)
    again = records(half)
    assert json.loads(again.pop('5,2,2_2,1,2_2,1,2_2,1,2_16.json'))['name'] == third
    assert again.items() <= whole.items()
    report = json.loads((half / 'report.json').read_text())
    assert [one['name'] for one in report['named']] == ['found', 'third']
    before = (half / 'report.json').read_bytes()
    assert 'resumed: 6 of 6 are done' in here.run(*run)
    assert (half / 'report.json').read_bytes() == before


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['nothing'], "'nothing' is neither a preset"),
        (['lost.json'], 'lost.json cannot be read (No such file or directory): give the result'),
        (['a=seed', f'a={OTHER}'], "'a' names two architectures"),
        (['--num-archs', '1'], '--num-archs 1 is too small'),
        (['--num-archs', '20000'], 'give at most 10000'),
        (['--threads', '0'], '--threads 0 is too small'),
    ],
)
def test_refusals(here, args, words):
    here.monkeypatch.delenv('RANK', raising=False)
    assert words in here.refusal(TOOL, *STUDY, *args)
    assert not (here.folder / 'work_dirs' / 'seed_percentiles' / 'study.json').exists()


def test_a_search_with_the_draws_of_the_study_is_not_judged_by_them(here):
    result = {'arch': OTHER, 'settings': {'seed': 1_000_002}}
    (here.folder / 'result.json').write_text(json.dumps(result))
    line = here.refusal(TOOL, 'x=result.json', *STUDY, '--seed', '2')
    assert 'result.json was found with the draws' in line
