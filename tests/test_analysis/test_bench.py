import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from asvit_mm.analysis import bench
from asvit_mm.analysis.bench import (
    BUDGETS,
    BenchBudget,
    draw_networks,
    limits_of,
    load_bench,
    write_table,
)
from asvit_mm.analysis.bench_training import run_bench, run_outcome
from asvit_mm.analysis.settings import BenchSettings, OutcomeSettings, TrainNetworksSettings
from asvit_mm.analysis.train_networks import run_training
from asvit_mm.errors import InputError
from asvit_mm.nas.filling import LEAST_USAGE
from asvit_mm.tokens import stage_sizes, window_length


@pytest.mark.parametrize('budget', BUDGETS.values(), ids=str)
def test_networks_use_their_budget(budget):
    archs = draw_networks(budget)
    assert len(set(archs)) == budget.networks
    assert archs == draw_networks(budget)
    assert {arch.stride for arch in archs} == set(budget.strides)
    for arch in archs:
        assert LEAST_USAGE <= limits_of(budget).usage(arch) <= 1
        stages = zip(stage_sizes(budget.img_size, arch.stride), arch.splits, strict=True)
        assert all(side == 1 or window_length(side, split) > 1 for side, split in stages)


TINY = BenchBudget(
    'tiny', 150_000, 2_000_000, networks=3, twice=1, img_size=16, epochs=1, classes=2
)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Three tiny networks, one of them with two seeds, on ten images of noise in each class folder."""
    monkeypatch.setitem(bench.BUDGETS, 'tiny', TINY)
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in ('a', 'b'):
            folder = tmp_path / 'images' / split / name
            folder.mkdir(parents=True)
            for i in range(70):
                pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{i}.png')

    def make(kind=BenchSettings, **options):
        values = dict(data=str(tmp_path / 'images'), device='cpu')
        values |= dict(budgets=('tiny',)) if kind is BenchSettings else {}
        return kind(**{**values, **options})

    return make


def top1(folder):
    table = json.loads((folder / 'table.json').read_text())
    return {(x['index'], run['seed']): run['top1'] for x in table['networks'] for run in x['runs']}


def test_parts_and_a_second_run_give_the_same_table(settings, tmp_path):
    run_bench(settings(work_dir=str(tmp_path / 'whole'), together=4))
    whole = top1(tmp_path / 'whole')
    assert list(whole) == [(0, 0), (0, 1), (1, 0), (2, 0)]
    for part in ('2/2', '1/2'):
        run_bench(settings(work_dir=str(tmp_path / 'parts'), part=part))
    assert top1(tmp_path / 'parts') == whole
    before = (tmp_path / 'parts' / 'table.json').read_bytes()
    run_bench(settings(work_dir=str(tmp_path / 'parts')))
    assert (tmp_path / 'parts' / 'table.json').read_bytes() == before


def test_records_of_another_table_are_refused(settings, tmp_path, monkeypatch):
    work_dir = str(tmp_path / 'kept')
    run_bench(settings(work_dir=work_dir, together=4))
    for change, words in (
        ({'epochs': 2}, r'recipe\.epochs is 1 there and 2'),
        ({'classes': 3}, '2 classes'),
    ):
        monkeypatch.setitem(bench.BUDGETS, 'tiny', replace(TINY, **change))
        with pytest.raises(InputError, match=words):
            run_bench(settings(work_dir=work_dir))
    monkeypatch.setitem(bench.BUDGETS, 'tiny', TINY)
    (tmp_path / 'images' / 'train' / 'a' / '0.png').unlink()
    with pytest.raises(InputError, match=r'data is .140 training .* and .139 training'):
        run_bench(settings(work_dir=work_dir))


def test_files_that_are_no_records_are_refused_before_training(settings, tmp_path):
    """And others in the folder do not matter."""
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / 'other.json').write_text('{"a": 1}')
    run_bench(settings(work_dir=str(work_dir), together=4))
    record = json.loads((work_dir / 'tiny-000-0.json').read_text())
    bad = work_dir / 'tiny-9.json'
    for change, words in (
        ({'budget': 'huge'}, 'no known budget'),
        ({'budget': 'cifar10-small'}, 'of no network of the table'),
        ({'index': None}, 'of no network of the table'),
        ({'top1': 101}, 'top-1 is 101'),
        ({'data': ''}, 'no record of a training'),
        ({'arch': '1'}, 'no record of a training'),
    ):
        bad.write_text(json.dumps({**record, **change}))
        with pytest.raises(InputError, match=words):
            run_bench(settings(work_dir=str(work_dir), data='nowhere'))
    bad.write_text('{"a": 1}')
    with pytest.raises(InputError, match=r'no record of a training \(KeyError'):
        run_bench(settings(work_dir=str(work_dir), data='nowhere'))


def test_a_table_is_read_back(settings, tmp_path):
    """Whole or not, with the noise between seeds, and only as it was written."""
    work_dir = tmp_path / 'work'
    run_bench(settings(work_dir=str(work_dir), minutes=0))
    assert load_bench(work_dir / 'table.json').networks == ()
    run_bench(settings(work_dir=str(work_dir), together=4))
    (work_dir / 'tiny-001-0.json').unlink()
    file = write_table(work_dir)
    table = load_bench(file)
    assert [(n.index, len(n.runs)) for n in table.of('tiny')] == [(0, 2), (2, 1)]
    assert table.budgets['tiny'].limits == TINY
    assert table.budgets['tiny'].steps == 1
    tops = [run.top1 for run in table.of('tiny')[0].runs]
    assert table.noise('tiny') == pytest.approx(np.std(tops, ddof=1))
    assert table.of('tiny')[0].top1 == pytest.approx(np.mean(tops))
    with pytest.raises(InputError, match="no network of 'huge'"):
        table.of('huge')
    for old, new, words in (
        ('"schema": 2', '"schema": 1', 'schema 1, not 2'),
        ('"macs": ', '"macs": 1', 'costs'),
        ('"top1": ', '"top1": -', 'top-1 is -'),
        ('"index"', '"x"', 'no table of networks'),
    ):
        (tmp_path / 'changed.json').write_text(file.read_text().replace(old, new))
        with pytest.raises(InputError, match=words):
            load_bench(tmp_path / 'changed.json')


def test_the_table_of_the_package():
    table = load_bench()
    assert table.of('cifar10-small')
    for network in table.networks:
        limits = table.budgets[network.budget].limits
        assert limits == BUDGETS[network.budget]
        assert draw_networks(limits)[network.index] == network.arch


def test_base_strides(settings):
    """Networks of stride 2 that are 4 points better on the mean, with a spread of one."""
    run = bench.BenchRun(0, 50.0, 1.0, {}, 1.0, 0, '', '')
    networks = [
        bench.BenchNetwork(
            *('tiny', i, replace(arch, stride=stride), 1, 1, 1.0),
            (replace(run, top1=50.0 + i + gain),),
        )
        for i, arch in enumerate(draw_networks(TINY))
        for stride, gain in ((2, 2), (4, -2))
    ]
    about = bench.TrainedBudget(TINY, '', 1, {})
    found = bench.Bench({'tiny': about}, tuple(networks)).by_stride('tiny')
    assert found['strides']['2'] == {'networks': 3, 'mean': 53, 'std': 1, 'best': 54}
    assert found['gain'] == pytest.approx(4)
    assert 0 < found['low'] < 4 < found['high']
    single = bench.Bench({'tiny': about}, tuple(networks[:2])).by_stride('tiny')
    assert single['gain'] is None


def test_what_searches_found(settings, tmp_path, capsys):
    run_bench(settings(work_dir=str(tmp_path / 'bench'), together=4))
    table = tmp_path / 'bench' / 'table.json'
    network = load_bench(table).of('tiny')[0]
    result = {'arch': str(network.arch), 'settings': {'steps': 7}}
    (tmp_path / 'search').mkdir()
    (tmp_path / 'search' / 'result.json').write_text(json.dumps(result))
    found = [f'tiny={tmp_path / "search"}', f'tiny={load_bench(table).of("tiny")[2].arch}']
    options = dict(found=found, seeds=2, table=str(table), work_dir=str(tmp_path / 'outcome'))
    run_outcome(settings(OutcomeSettings, **options, part='1/2'))
    assert 'no report yet' in capsys.readouterr().out
    run_outcome(settings(OutcomeSettings, **options))
    (report,) = json.loads((tmp_path / 'outcome' / 'report.json').read_text())['budgets'].values()
    top1 = [n.top1 for n in load_bench(table).of('tiny')]
    assert report['table'] == {'networks': 3, 'top1': sorted(top1)}
    first, second = report['found']
    assert (first['settings'], second['settings']) == ({'steps': 7}, None)
    # Trained as the table's network was, by the same two seeds.
    assert [run['top1'] for run in first['runs']] == [run.top1 for run in network.runs]
    below, equal = (sum(sign * x < sign * first['top1'] for x in top1) for sign in (1, -1))
    assert first['percentile'] == pytest.approx(100 * (below + (3 - below - equal) / 2) / 3)
    # Records belong to networks, not to places on the command line.
    records = {file: file.stat().st_mtime_ns for file in (tmp_path / 'outcome').glob('*/*.json')}
    run_outcome(settings(OutcomeSettings, **{**options, 'found': [*found[::-1], found[0]]}))
    assert records == {f: f.stat().st_mtime_ns for f in (tmp_path / 'outcome').glob('*/*.json')}
    (report,) = json.loads((tmp_path / 'outcome' / 'report.json').read_text())['budgets'].values()
    assert report['found'] == [second, first, first]
    big = f'tiny={"8,2,3|4,1,2|4,1,4|4,1,6|32"}'
    for wrong, words in (
        (big, 'exceeds tiny'),
        ('x', 'names no budget'),
        ('cifar10-large=y', 'no network'),
    ):
        with pytest.raises(InputError, match=words):
            run_outcome(settings(OutcomeSettings, **{**options, 'found': [wrong]}))
    content = table.read_text()
    for old, new, words in (
        ('"lr": 0.001', '"lr": 0.002', r'recipe\.lr is 0\.002 there'),
        ('"data": "140', '"data": "141', "data is '141 training"),
    ):
        table.write_text(content.replace(old, new))
        with pytest.raises(InputError, match=words):
            run_outcome(settings(OutcomeSettings, **options))
    (tmp_path / 'outcome' / 'report.json').write_text('{"a": 1}')
    with pytest.raises(InputError, match='is no report'):
        run_outcome(settings(OutcomeSettings, **options))


def test_bad_settings(settings, tmp_path):
    for part in ('3/2', '0/2', 'x', '1/'):
        with pytest.raises(InputError, match='is no part'):
            settings(part=part)
    with pytest.raises(InputError, match='needs train/ and test/'):
        run_bench(
            BenchSettings(data=str(tmp_path / 'images' / 'train'), work_dir=str(tmp_path / 'w'))
        )
    with pytest.raises(InputError, match='no budget'):
        settings(budgets=('huge',))


def test_networks_beside_peers(settings, tmp_path):
    settings()  # writes the images
    run_training(
        TrainNetworksSettings(
            networks=['4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16/2', 'resnet', 'swin'],
            data=str(tmp_path / 'images'),
            work_dir=str(tmp_path / 'out'),
            epochs=1,
            batch=64,
            device='cpu',
            strong=True,
        )
    )
    rows = json.loads((tmp_path / 'out' / 'results.json').read_text())['networks']
    assert [row['network'] for row in rows][1:] == ['resnet', 'swin']
    for row in rows[1:]:
        assert row['macs'] == pytest.approx(40e6, rel=0.05)
    weights = torch.load(tmp_path / 'out' / '0.pth', weights_only=True)['state_dict']
    assert weights['backbone.pos_embed'].shape == (1, 16, 16, 16)
