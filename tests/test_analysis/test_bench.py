import json

import numpy as np
import pytest
import torch
from PIL import Image

from asvit_mm.analysis import bench
from asvit_mm.analysis.bench import BUDGETS, LEAST_USAGE, BenchBudget, draw_networks, run_bench
from asvit_mm.analysis.settings import BenchSettings, TrainNetworksSettings
from asvit_mm.analysis.train_networks import run_training
from asvit_mm.errors import InputError
from asvit_mm.tokens import stage_sizes, window_length


@pytest.mark.parametrize('budget', BUDGETS.values(), ids=str)
def test_networks_use_their_budget(budget):
    archs = draw_networks(budget, 32, 10)
    assert len(set(archs)) == budget.networks
    assert archs == draw_networks(budget, 32, 10)
    assert {arch.stride for arch in archs} == {2, 4}
    for arch in archs:
        assert LEAST_USAGE <= budget.usage(arch, 32, 10) <= 1
        stages = zip(stage_sizes(32, arch.stride), arch.splits, strict=True)
        assert all(side == 1 or window_length(side, split) > 1 for side, split in stages)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Three tiny networks, one of them with two seeds, on ten images of noise in each class folder."""
    tiny = BenchBudget('tiny', 150_000, 2_000_000, networks=3, twice=1)
    monkeypatch.setitem(bench.BUDGETS, 'tiny', tiny)
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in ('a', 'b'):
            folder = tmp_path / 'images' / split / name
            folder.mkdir(parents=True)
            for i in range(70):
                pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{i}.png')

    def make(**options):
        values = dict(data=str(tmp_path / 'images'), budgets=('tiny',), img_size=16, epochs=1)
        return BenchSettings(**{**values, 'device': 'cpu', **options})

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


def test_records_of_another_table_are_refused(settings, tmp_path):
    work_dir = str(tmp_path / 'kept')
    run_bench(settings(work_dir=work_dir, together=4))
    with pytest.raises(InputError, match=r'recipe\.epochs is 1 there and 2 here\): give another'):
        run_bench(settings(work_dir=work_dir, epochs=2))
    with pytest.raises(InputError, match='img_size is 16 there and 8 here'):
        run_bench(settings(work_dir=work_dir, img_size=8))
    (tmp_path / 'images' / 'train' / 'a' / '0.png').unlink()
    with pytest.raises(InputError, match=r'data is .140 training .* and .139 training'):
        run_bench(settings(work_dir=work_dir))


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
