"""The race of a run's finalists: real trainings, resumed anywhere, and what a failing one costs."""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import pytest
import torch
from mmengine.runner import Runner

from asvit_mm.arch import PRESETS, Architecture, as_architecture
from asvit_mm.errors import InputError
from asvit_mm.nas import Budget, Clock
from asvit_mm.runs import race
from asvit_mm.runs.race import Race
from asvit_mm.runs.scale import _Scale, run_scaling
from asvit_mm.runs.search import run_search
from asvit_mm.runs.settings import ScaleSettings, SearchSettings
from asvit_mm.runs.training import Split, training_config
from asvit_mm.utils.command_line import as_arguments

from ..test_tools.kills import cut, files, stopped
from ..test_tools.runs import ended, torchrun, write_images

QUICK = dict(data='digits', img_size=16, batch_size=4, repeat=1, device='cpu', race_minutes=0.01)
SETTINGS = SearchSettings(work_dir='run', steps=3, finalists=3, **QUICK)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A folder with a search in run/ whose finalists raced."""
    folder = tmp_path_factory.mktemp('race')
    with contextlib.chdir(folder):
        run_search(SETTINGS)
    return folder


@pytest.fixture
def copied(finished, here):
    shutil.copytree(finished / 'run', here.folder / 'run')
    return here.folder / 'run'


def races(work_dir):
    """The lines of the trace that are the race's."""
    lines = map(json.loads, (work_dir / 'trace.jsonl').read_text().splitlines())
    return [line for line in lines if 'race' in line]


@pytest.mark.slow
def test_the_winner_is_the_result(finished):
    result = json.loads((finished / 'run' / 'result.json').read_text())
    found = result['race']
    assert [one['networks'] for one in found['rounds']] == [3, 2]
    assert (found['images'], found['held_out']) == (1150, 287)
    winner, *others = found['finalists']
    assert winner['arch'] == result['arch']
    assert len({one['arch'] for one in found['finalists']}) == 3
    assert [len(one['top1']) for one in found['finalists']] == [2, 2, 1]
    assert winner['top1'][1] >= others[0]['top1'][1]
    assert found['curve'][-1] == [found['rounds'][-1]['epochs'], winner['top1'][1]]
    for one in found['finalists']:
        assert (finished / 'run' / one['config']).is_file()
        assert 0 <= min(one['top1']) <= max(one['top1']) <= 100
    kinds = [line['race'] for line in races(finished / 'run')]
    assert kinds == ['timing'] * 3 + ['plan'] + ['training'] * 5
    assert result['front'][-1]['macs'] >= result['front'][0]['macs']
    assert result['arch'] in [one['arch'] for one in result['front']]
    page = (finished / 'run' / 'report.html').read_text()
    assert 'id="race"' in page
    assert 'race.png' in page
    assert not list((finished / 'run').glob('.race.*'))


@pytest.mark.slow
@pytest.mark.parametrize('line', [5, 7, 11])
def test_cut_after_the_plan_it_ends_as_it_would_have(finished, copied, line):
    lines = (copied / 'trace.jsonl').read_bytes().splitlines(keepends=True)
    begin = next(i for i, text in enumerate(lines) if b'"plan"' in text)
    kept = b''.join(lines[: max(begin + 1, line)])
    cut(copied, len(kept) + 9)
    (copied / '.race.abcdefgh').mkdir()
    result = run_search(replace(SETTINGS, resume=True))
    assert files(copied) == files(finished / 'run')
    assert result.race['finalists'][0]['arch'] == str(result.architecture)


@pytest.mark.slow
def test_killed_inside_a_training_it_has_the_same_winner(finished, copied):
    lines = (copied / 'trace.jsonl').read_bytes().splitlines(keepends=True)
    begin = 1 + next(i for i, text in enumerate(lines) if b'"plan"' in text)
    cut(copied, len(b''.join(lines[:begin])))
    words = [
        *as_arguments(replace(SETTINGS, resume=True), leave_out=('work_dir',)),
        '--work-dir',
        'run',
    ]
    status, errors = stopped(
        *('search.py', *words), cwd=copied.parent, trace=copied / 'trace.jsonl', lines=begin + 1,
        signal=SIGKILL, ready=lambda: any(copied.glob('.race.*/training/*')),
    )  # fmt: skip
    assert status == -SIGKILL, errors
    assert len(races(copied)) < len(races(finished / 'run'))
    result = run_search(replace(SETTINGS, resume=True))
    assert files(copied) == files(finished / 'run')
    assert result.race['finalists'][0]['arch'] == str(result.architecture)


@pytest.mark.slow
def test_interrupted_it_says_who_leads(copied, finished, monkeypatch):
    lines = (copied / 'trace.jsonl').read_bytes().splitlines(keepends=True)
    cut(copied, len(b''.join(lines[:-1])))

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(race, 'train', interrupt)
        with pytest.raises(KeyboardInterrupt, match='after 3 of 3 steps'):
            run_search(replace(SETTINGS, resume=True))
    so_far = json.loads((copied / 'so_far.json').read_text())
    first = races(copied)[4:7]
    assert so_far['arch'] in [
        r['arch'] for r in first if r['top1'] == max(x['top1'] for x in first)
    ]
    assert (copied / so_far['config']).is_file()
    run_search(replace(SETTINGS, resume=True))
    assert files(copied) == files(finished / 'run')


@pytest.mark.slow
def test_two_processes_race_as_one_does(finished, tmp_path):
    words = as_arguments(SETTINGS, leave_out=('work_dir',))
    process = torchrun('search.py', *words, '--work-dir', 'run', cwd=tmp_path)
    status, _, errors = ended(process)
    assert status == 0, errors
    both = [races(folder / 'run') for folder in (finished, tmp_path)]
    one, two = ([line for line in lines if line['race'] != 'timing'] for lines in both)
    assert one == two


@pytest.mark.slow
def test_an_altered_accuracy_is_refused(finished, copied):
    text = (copied / 'trace.jsonl').read_text()
    cut(copied, len(text))
    (copied / 'trace.jsonl').write_text(text.replace('"top1": ', '"top1": "x", "y": ', 1))
    with pytest.raises(InputError, match='is not what this run gives'):
        run_search(replace(SETTINGS, resume=True))


@pytest.mark.slow
def test_a_network_that_cannot_be_trained_comes_last(here, monkeypatch):
    whole = Runner.train

    def fail(runner):
        if runner.cfg.model.backbone.arch == failing:
            raise torch.OutOfMemoryError('out of memory')
        return whole(runner)

    monkeypatch.setattr(Runner, 'train', fail)
    failing = '8,2,3,1|4,1,2,1|4,1,4,2|4,1,6,1|32,32'
    settings = ScaleSettings('seed', work_dir='run', max_params='2.3M', finalists=2, **QUICK)
    result = run_scaling(settings)
    order = [one['arch'] for one in result.race['finalists']]
    assert len(order) == 2
    assert str(result.architecture) == order[0] != failing
    if failing in order:
        assert result.race['finalists'][1]['failed'] == 'OutOfMemoryError: out of memory'
    failing = str(result.architecture)
    again = run_scaling(replace(settings, work_dir='again'))
    assert again.race['finalists'][1]['failed'] == 'OutOfMemoryError: out of memory'
    assert 'in fail' in next((here.folder / 'again' / 'race').glob('*.txt')).read_text()
    assert again.race['finalists'][1]['arch'] == failing != str(again.architecture)


def test_held_out_images_are_not_trained_on(tmp_path):
    split = Split(trained=7, every=5, total=23)
    assert len(split.held_out) == 4
    assert split.held_out == sorted(split.held_out)
    assert len(set(split.training)) == 7
    assert not set(split.training) & set(split.held_out)
    rest = sorted(set(range(23)) - set(split.held_out))
    assert (split.training[0], split.training[-1]) == (rest[0], rest[-1])
    # Where classes take turns, all are held out.
    assert len({i % 10 for i in Split(trained=1, every=5, total=500).held_out}) == 10
    write_images(tmp_path)
    settings = SearchSettings(data=str(tmp_path / 'images' / 'train'), img_size=16, device='cpu')
    part = Split(trained=4, every=4, total=12)
    cfg = training_config(PRESETS['seed'], settings.source, epochs=2, validate=True, split=part)
    assert cfg.train_dataloader.dataset.indices == part.training
    assert cfg.val_dataloader.dataset.indices == part.held_out
    assert cfg.val_dataloader.dataset.data_prefix == cfg.train_dataloader.dataset.data_prefix
    assert 'RandomFlip' not in [step.type for step in cfg.val_dataloader.dataset.pipeline]


def test_a_data_set_that_cannot_be_divided_is_refused(tmp_path):
    config = tmp_path / 'user.py'
    write_images(tmp_path)
    dataset = f"dict(type='CustomDataset', data_root={str(tmp_path / 'images' / 'train')!r})"
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        'data_preprocessor = dict(num_classes=2)\n'
        'test_pipeline = []\n'
        f'repeated = dict(type={"RepeatDataset"!r}, times=2, dataset={dataset})\n'
        'train_dataloader = dict(batch_size=2, dataset=repeated)\n'
    )
    settings = SearchSettings(data=str(config), img_size=16, device='cpu', finalists=2)
    with pytest.raises(InputError, match='trains on a RepeatDataset, of which no images'):
        Race(settings, settings.source)


@pytest.fixture
def own(tmp_path):
    """Writes an mmpretrain config of 24 images whose data set has some options, and gives its settings."""
    write_images(tmp_path)

    def write(dataset='', loader='', head='LinearClsHead'):
        config = tmp_path / 'user.py'
        config.write_text(
            "default_scope = 'mmpretrain'\n"
            f"model = dict(head=dict(type='{head}', num_classes=2))\n"
            'test_pipeline = []\n'
            f'root = {str(tmp_path / "images" / "train")!r}\n'
            f"one = dict(type='CustomDataset', data_root=root, {dataset})\n"
            f'train_dataloader = dict(batch_size=2, dataset=one, {loader})\n'
        )
        return SearchSettings(data=str(config), img_size=16, device='cpu', finalists=2)

    return write


@pytest.mark.parametrize(
    ('indices', 'left'),
    [('6', range(6)), ('-6', range(-6, 0)), ('[3, 4, 7, 9, 10]', [3, 4, 7, 9, 10])],
)
def test_only_the_images_of_the_users_data_set_take_part(own, indices, left):
    settings = own(f'indices={indices}', 'drop_last=True')
    assert Race(settings, settings.source).images == len(left)
    split = Split(trained=len(left) - 1, every=5, total=len(left))
    cfg = training_config(PRESETS['seed'], settings.source, epochs=1, validate=True, split=split)
    held, trained = (cfg[f'{n}_dataloader'].dataset.indices for n in ('val', 'train'))
    assert sorted([*held, *trained]) == list(left)
    assert (cfg.val_dataloader.drop_last, cfg.train_dataloader.drop_last) == (False, True)


def test_images_of_several_labels_are_refused(own):
    settings = own(head='MultiLabelClsHead')
    with pytest.raises(InputError, match=r'has images of several labels, .* leave --finalists out'):
        Race(settings, settings.source)


@pytest.mark.parametrize('kind', [torch.OutOfMemoryError, FloatingPointError, KeyError])
def test_what_a_network_fails_of_is_told_from_a_mistake(tmp_path, monkeypatch, kind):
    write_images(tmp_path)

    def fail(runner):
        raise kind('no more')

    monkeypatch.setattr(Runner, 'train', fail)
    training = race.Training(
        str(tmp_path / 'images'), 16, PRESETS['seed'], 1, 1, Split(6, 5, 12), 0, 'cpu', 'none', 1,
        str(tmp_path / 'root'), '1-a', str(tmp_path / 'race' / 'a.txt'),
    )  # fmt: skip
    if kind is KeyError:
        with pytest.raises(InputError, match=r'training 1-a failed: .*a\.txt'):
            race.train(training)
    else:
        assert race.train(training) == {'failed': f'{kind.__name__}: no more'}
    assert 'in fail' in (tmp_path / 'race' / 'a.txt').read_text()


@pytest.mark.slow
def test_finalists_of_scaling_fill_the_limits_in_several_ways(copied):
    limits = dict(max_params='2M', max_flops='8M')
    settings = ScaleSettings('run/result.json', work_dir='scaled', finalists=4, **QUICK, **limits)
    result = run_scaling(settings)
    found = [Architecture.parse(one['arch']) for one in result.race['finalists']]
    assert len({arch.seed for arch in found}) > 2
    assert {arch.stride for arch in found} == {2, 4}
    budget = Budget(10, 16, 2_000_000, 8_000_000)
    assert all(0.8 <= budget.usage(arch) <= 1 for arch in found)
    whole = files(copied.parent / 'scaled')
    # Of the race it has times, which are measured again.
    del whole['trace.jsonl']
    trace = copied.parent / 'scaled' / 'trace.jsonl'
    lines = trace.read_bytes().splitlines(keepends=True)
    # Between the measurements of two finalists.
    (first, *_) = (i for i, line in enumerate(lines) if json.loads(line).get('finalist'))
    cut(copied.parent / 'scaled', len(b''.join(lines[: first + 1])))
    run_scaling(replace(settings, resume=True))
    assert {**files(copied.parent / 'scaled'), **whole} == files(copied.parent / 'scaled')


@pytest.mark.slow
def test_a_finalist_that_is_too_slow_is_replaced(here, monkeypatch):
    monkeypatch.setattr(Clock, '__call__', lambda clock, arch: 100.0 if arch.stride == 2 else 1.0)
    limits = dict(max_params='2.3M', max_flops='8M', max_latency=10)
    result = run_scaling(ScaleSettings('seed', work_dir='run', finalists=4, **QUICK, **limits))
    lines = map(json.loads, (here.folder / 'run' / 'trace.jsonl').read_text().splitlines())
    measured = [line for line in lines if 'finalist' in line]
    assert any('refused' in line for line in measured)
    found = [Architecture.parse(one['arch']) for one in result.race['finalists']]
    assert [arch.stride for arch in found] == [4] * 4
    assert len({arch.seed for arch in found}) > 1


@pytest.mark.slow
def test_the_front_of_the_search_belongs_to_a_race_that_fills_limits(copied):
    def fingerprint(**settings):
        return _Scale(ScaleSettings('run/result.json', **QUICK, **settings), Path()).fingerprint()

    found = json.loads((copied / 'result.json').read_text())['front']
    front = fingerprint(finalists=2, max_params='2M')['front']
    assert front == [str(as_architecture(one['arch']).seed) for one in found]
    for others in (
        dict(finalists=2),
        dict(max_params='2M'),
        dict(finalists=2, max_params='4M', min_params='2M'),
    ):
        assert 'front' not in fingerprint(**others)
