"""The networks of a run as objects and as records of result.json: both directions are here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..arch import Architecture, as_architecture
from ..config_writer.naming import RunConfigs
from ..cost import count_macs, count_params
from ..errors import InputError
from ..utils.files import read_object
from ..utils.units import format_count


@dataclass(frozen=True)
class Network:
    """A network that was found, what it costs, what was measured of it, and the configs that train it.

    Attributes:
        architecture: topology and size; ``str`` of it is what configs, tools and the backbone take.
        params: parameters of the classifier that ``config`` trains.
        macs: multiply-adds per image of that classifier.
        num_classes: classes of that classifier.
        img_size: pixels per side of the images that it is trained on.
        length_distortion: L^E, higher is better; None if it could not be measured. In a series it is that of
            the proxy, a quarter as wide.
        ntk_condition_number: kappa, lower is better; None and proxy as for L^E.
        latency_ms: milliseconds per image of that classifier; None if the run has no ``max_latency``.
        config: of mmpretrain: trains the classifier.
        detection_config: of mmdet: trains Mask R-CNN with this backbone on COCO.
    """

    architecture: Architecture
    params: int
    macs: int
    num_classes: int
    img_size: int
    length_distortion: float | None
    ntk_condition_number: float | None
    latency_ms: float | None
    config: Path
    detection_config: Path


@dataclass(frozen=True)
class SearchResult(Network):
    """The seed that a search found.

    Attributes:
        work_dir: where everything is written.
        records: of the trace, one per step.
    """

    work_dir: Path
    records: tuple[dict[str, Any], ...] = field(repr=False)


@dataclass(frozen=True)
class ScaleResult(Network):
    """The largest network of a series, and the series.

    Attributes:
        work_dir: where everything is written.
        series: its networks, from small to large.
        targets: for each target, in parameters, the best network at or under it; empty without targets.
        stopped: why growing ended.
        records: of the trace: one per candidate, and after those of a step the network that was chosen.
    """

    work_dir: Path
    series: tuple[Network, ...] = field(repr=False)
    targets: Mapping[int, Network] = field(repr=False)
    stopped: str
    records: tuple[dict[str, Any], ...] = field(repr=False)


def network_record(arch: Architecture, configs: RunConfigs) -> dict[str, Any]:
    """Plain data of a network: costs of the classifier that its config trains, and its configs."""
    data = configs.data
    return {
        'params': count_params(arch, data.num_classes, img_size=data.img_size),
        'macs': count_macs(arch, data.img_size, data.num_classes),
        'num_classes': data.num_classes,
        'train_img_size': data.img_size,
        **configs.add(arch),
    }


def read_search_result(work_dir: Path) -> SearchResult:
    """The result of a complete search."""
    result = json.loads((work_dir / 'result.json').read_text(encoding='utf-8'))
    return SearchResult(
        **_network(result, work_dir), work_dir=work_dir, records=_read_trace(work_dir)
    )


def read_scale_result(work_dir: Path) -> ScaleResult:
    """The result of a complete scaling run."""
    result = json.loads((work_dir / 'result.json').read_text(encoding='utf-8'))
    series = [_network(member, work_dir) for member in result['series']]
    targets = {
        best['target']: Network(**_network(best, work_dir)) for best in result.get('targets', ())
    }
    return ScaleResult(
        **series[-1],
        work_dir=work_dir,
        series=tuple(Network(**member) for member in series),
        targets=targets,
        stopped=result['stopped'],
        records=_read_trace(work_dir),
    )


def read_seed(path: Path) -> str:
    """The architecture in the result.json or so_far.json of a run.

    Raises:
        InputError: the file is neither, or its costs are not those of its architecture.
    """
    advice = 'give the result.json of a search'
    result = read_object(path, advice)
    arch, size, classes = map(result.get, ('arch', 'train_img_size', 'num_classes'))
    if not isinstance(arch, str):
        raise InputError(f'{str(path)!r} is no result of a search: {advice}')
    # A scaling run has the costs of each member of its series instead.
    if 'params' in result:
        params = None
        if type(size) is int and type(classes) is int:
            params = count_params(as_architecture(arch), classes, img_size=size)
        if result['params'] != params:
            raise InputError(
                f'{str(path)!r} was changed: {result["params"]!r} are not the parameters of {arch}; '
                f'{advice} as it was written'
            )
    return arch


def cost_rows(network: Network) -> dict[str, str]:
    """The lines about costs of a printed summary."""
    size = network.img_size
    rows = {
        'parameters': f'{network.params:,} with a head of {network.num_classes} classes',
        'multiply-adds': f'{format_count(network.macs)} per image of {size}x{size} pixels',
    }
    if network.latency_ms is not None:
        rows['latency'] = f'{network.latency_ms:g} ms per image'
    return rows


def _read_trace(work_dir: Path) -> tuple[dict[str, Any], ...]:
    trace = (work_dir / 'trace.jsonl').read_text(encoding='utf-8')
    return tuple(map(json.loads, trace.splitlines()))


def _network(record: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """The arguments of :class:`Network`."""
    same = ('params', 'macs', 'num_classes', 'length_distortion', 'ntk_condition_number')
    return {
        'architecture': Architecture.parse(record['arch']),
        **{name: record[name] for name in same},
        'img_size': record['train_img_size'],
        'latency_ms': record.get('latency_ms'),
        **{name: work_dir / record[name] for name in ('config', 'detection_config')},
    }
