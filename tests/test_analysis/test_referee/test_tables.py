"""Tables in the formats of the benchmarks, written here: theirs are not part of this package."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from asvit_mm.analysis.bench import PLACES, load_bench
from asvit_mm.analysis.referee.spaces import AutoFormer, PiT
from asvit_mm.analysis.referee.tables import read_table
from asvit_mm.errors import InputError

AUTOFORMER = {'num_heads': [3, 4], 'mlp_ratio': [3.5, 4.0]}
TABLES = os.environ.get('REFEREE_TABLES')


def ood_entry(top1, width=24):
    setting = {'layer_num': 2, 'embed_dim': [width] * 2, **AUTOFORMER}
    with torch.device('meta'):
        network = AutoFormer(width, *AUTOFORMER.values())
    params = sum(p.numel() for p in network.parameters()) / 1e6
    performance = {'Imagenet': {'clean': top1}}
    return {'net_setting': setting, 'performance': performance, 'params': params, 'flops': 1.0}


def test_ood_vit_nas(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps({'0': ood_entry(75.5), '1': ood_entry(76, 48)}))
    first, second = read_table(path)
    assert first.accuracies == {'imagenet': 75.5}
    assert first.baselines == {'depth': 2, 'width': 24, 'hidden_units': 84 + 96}
    network = second.build(224)
    assert sum(p.numel() for p in network.parameters()) == second.params
    assert network.blocks[1].attn.of_keys is not None
    assert second.build(64).pos_embed.shape == (1, 17, 48)


def test_vit_bench(tmp_path):
    pit = {'base_dim': 8, 'mlp_ratio': 2, 'depth': [1, 2, 1], 'num_heads': [2, 2, 4]}
    rows = [
        {
            'arch': {'hidden_dim': 24, 'depth': 2, **AUTOFORMER},
            'c100_base_acc': 1.0,
            'c100_kd_acc': None,
        },
        {'arch': pit, 'c100_base_acc': 2.0},
    ]
    torch.save(rows, tmp_path / 'a.pth')
    first, second = read_table(tmp_path / 'a.pth')
    assert first.accuracies == {'c100_base': 1.0}
    network = first.build(64)
    assert (network.blocks[1].attn.dim, network.blocks[1].attn.of_keys) == (6, None)
    assert isinstance(second.build(64), PiT)
    assert second.baselines == {'depth': 4, 'width': 20, 'hidden_units': 32 + 64 + 64}
    with torch.no_grad():
        assert second.build(64)(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_timm_results(tmp_path):
    path = tmp_path / 'results.csv'
    path.write_text(
        'model,img_size,top1\nvit_tiny_patch16_224.augreg_in21k,224,75.4\nunknown,224,1\n'
    )
    (entry,) = read_table(path)
    assert entry.accuracies == {'top1': 75.4}
    assert isinstance(entry.build(64), nn.Module)


def test_our_own():
    entries, networks = read_table('bench'), load_bench().networks
    assert [entry.ours.arch for entry in entries] == [network.arch for network in networks]
    first, arch = entries[0], networks[0].arch
    assert first.accuracies == {networks[0].budget: networks[0].top1}
    network = first.build(32)
    hidden = [m.out_features for name, m in network.named_modules() if name.endswith('fc1')]
    assert first.baselines['hidden_units'] == sum(hidden)
    assert (first.baselines['depth'], first.baselines['stride']) == (len(hidden), arch.stride)
    for place in PLACES:
        if place.exists():
            assert len(read_table(place)) == len(entries)


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('a.json', None, 'No such file'),
        ('a.json', '{"0": {"net_setting": 1}}', 'is not that of'),
        ('a.json', '{}', 'has no networks'),
        ('a.pth', 'text', 'is not that of'),
        ('a.txt', 'text', 'is not known'),
    ],
)
def test_refusals(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_table(tmp_path / name)


@pytest.mark.slow
@pytest.mark.skipif(not TABLES, reason='REFEREE_TABLES is no folder with the tables of OoD-ViT-NAS')
@pytest.mark.parametrize('size', ['tiny', 'small', 'base'])
def test_parameters_of_every_entry(size, monkeypatch):
    for name in ('trunc_normal_', 'zeros_'):
        monkeypatch.setattr(nn.init, name, lambda tensor, **_: tensor)
    entries = read_table(Path(TABLES) / f'ood_{size}.json')
    with torch.device('meta'):
        for entry in entries:
            assert sum(p.numel() for p in entry.build(224).parameters()) == entry.params
