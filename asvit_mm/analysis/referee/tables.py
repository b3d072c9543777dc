"""Benchmark tables by path: networks, what they cost, and the accuracies that others trained.

- OoD-ViT-NAS (Ho et al., NeurIPS 2024): a JSON file of 1,001 AutoFormer subnets, ImageNet-1k top-1 with
  weights inherited from the supernet.
- ViT-Bench-101 (Wei et al., AAAI 2024): a .pth file of 100 AutoFormer or PiT networks, trained from scratch.
- our own (docs/studies/bench): networks of the search space, CIFAR-10 or Imagenette top-1.
- timm's results (github.com/huggingface/pytorch-image-models, results/*.csv): pretrained models by name.
"""

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...arch import Architecture
from ...errors import InputError, one_line
from ...models import AsViT
from ...runs.subjects import timm_builder
from ..bench import Bench, BenchRun, TrainedBudget, load_bench
from .spaces import AutoFormer, PiT


@dataclass(frozen=True)
class Entry:
    """One network of a table.

    Attributes:
        build: creates it with fresh weights, for images of so many pixels.
        accuracies: top-1 in per cent by the name of the training.
        baselines: what costs nothing: ``depth``, ``width``, ``hidden_units``, where the table says it.
        params: parameters that the table states; None if it does not.
        ours: of a network of our own table, what else it says.
    """

    build: Callable[[int], nn.Module]
    accuracies: Mapping[str, float]
    baselines: Mapping[str, float]
    params: int | None = None
    ours: 'Ours | None' = None


@dataclass(frozen=True)
class Ours:
    """What our own table says of a network.

    Attributes:
        place: in the order in which the networks of its budget were drawn.
        trained: its budget, and how that was trained.
        runs: its trainings.
        bench: the table.
    """

    arch: Architecture
    place: int
    trained: TrainedBudget
    runs: tuple[BenchRun, ...]
    bench: Bench


def read_table(path: str | Path) -> list[Entry]:
    """The networks of a table, in its order.

    Raises:
        InputError: no such file, or none of the formats above.
    """
    if path == 'bench':
        return _ours(load_bench())
    readers = {'.json': _of_json, '.pth': _vit_bench, '.csv': _timm_results}
    path = Path(path)
    if path.suffix not in readers:
        raise InputError(f'table {str(path)!r} is not known: give a .json, .pth or .csv')
    try:
        entries = readers[path.suffix](path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f'table {str(path)!r} cannot be read: {error.strerror}') from None
    except Exception as error:  # whatever a file of another kind makes json, pickle or a key raise
        raise InputError(
            f'table {str(path)!r} is not that of OoD-ViT-NAS, ViT-Bench-101, timm or ours '
            f'({one_line(error)})'
        ) from error
    if not entries:
        raise InputError(f'table {str(path)!r} has no networks')
    return entries


def _of_json(path: Path) -> list[Entry]:
    table = json.loads(path.read_text())
    if 'schema' in table:
        return _ours(load_bench(path))
    rows = table.values()
    return [
        _autoformer(
            row['net_setting']['embed_dim'][0],
            row['net_setting']['num_heads'],
            row['net_setting']['mlp_ratio'],
            {'imagenet': float(row['performance']['Imagenet']['clean'])},
            params=round(row['params'] * 1e6),
        )
        for row in rows
    ]


def _ours(bench: Bench) -> list[Entry]:
    entries = []
    for network in bench.networks:
        arch, budget = network.arch, bench.budgets[network.budget]
        stages = list(zip(arch.widths, arch.depths, arch.expansions, strict=True))
        baselines = {
            'params': network.params,
            'flops': network.macs,
            'depth': sum(arch.depths),
            'width': sum(w * d for w, d, _ in stages) / sum(arch.depths),
            'hidden_units': sum(w * d * e for w, d, e in stages),
            'stride': arch.stride,
        }
        ours = Ours(arch, network.index, budget, network.runs, bench)
        build = partial(_build_ours, arch)
        entries.append(Entry(build, {network.budget: network.top1}, baselines, ours=ours))
    return entries


def _build_ours(arch: Architecture, img_size: int) -> nn.Module:
    return AsViT(arch, img_size=img_size)


def _vit_bench(path: Path) -> list[Entry]:
    entries = []
    for row in torch.load(path, weights_only=True):
        arch = row['arch']
        accuracies = {
            key.removesuffix('_acc'): float(value)
            for key, value in row.items()
            if key.endswith('_acc') and value is not None
        }
        if 'base_dim' in arch:
            entries.append(_pit(arch, accuracies))
            continue
        width, heads, ratios = arch['hidden_dim'], arch['num_heads'], arch['mlp_ratio']
        entries.append(
            _autoformer(
                *(width, heads, ratios, accuracies), head_dim=None, relative=False, eps=1e-6
            )
        )
    return entries


def _timm_results(path: Path) -> list[Entry]:
    import timm

    def build(name: str) -> Callable[[int], nn.Module]:
        return lambda size: timm_builder(name, size)()

    with path.open(newline='') as file:
        rows = list(csv.DictReader(file))
    return [
        Entry(
            build(row['model']),
            {'top1': float(row['top1'])},
            {},
        )
        for row in rows
        if timm.is_model(row['model'].partition('.')[0])
    ]


def _autoformer(
    width: int,
    heads: list[int],
    ratios: list[float],
    accuracies: Mapping[str, float],
    params: int | None = None,
    **options: Any,
) -> Entry:
    baselines = {
        'depth': len(heads),
        'width': width,
        'hidden_units': sum(int(width * r) for r in ratios),
    }
    return Entry(
        lambda size: AutoFormer(width, heads, ratios, img_size=size, **options),
        accuracies,
        baselines,
        params,
    )


def _pit(arch: Mapping[str, Any], accuracies: Mapping[str, float]) -> Entry:
    base, depth, heads = arch['base_dim'], arch['depth'], arch['num_heads']
    widths = [base * h for h in heads]
    baselines = {
        'depth': sum(depth),
        'width': math.fsum(w * d for w, d in zip(widths, depth, strict=True)) / sum(depth),
        'hidden_units': sum(
            int(w * arch['mlp_ratio']) * d for w, d in zip(widths, depth, strict=True)
        ),
    }
    return Entry(
        lambda size: PiT(base, depth, heads, arch['mlp_ratio'], img_size=size),
        accuracies,
        baselines,
    )
