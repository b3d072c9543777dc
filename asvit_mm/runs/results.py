"""The networks of a run as objects and as records of result.json: both directions are here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..arch import Architecture, as_architecture
from ..config_writer.naming import RunConfigs
from ..cost import count_params
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
        measured_on: the images that both measures are of, ``data`` and ``img_size``. Values of other images
            do not compare.
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
    measured_on: Mapping[str, Any]
    config: Path
    detection_config: Path


@dataclass(frozen=True)
class Found(Network):
    """The network that a run found, and what else it returns.

    Attributes:
        work_dir: where everything is written.
        front: the networks that no other is as good and as cheap as, from the cheapest on.
        budget: for each limit what the network uses of it (``limit``, ``unit``, ``value``, ``used``), and
            ``why`` it leaves the rest.
        race: of the finalists: ``rounds``, ``finalists`` from the winner on, and its ``curve``; None without.
        records: of the trace.
    """

    work_dir: Path
    front: tuple[Network, ...] = field(repr=False)
    budget: tuple[dict[str, Any], ...] = field(repr=False)
    race: Mapping[str, Any] | None = field(repr=False)
    records: tuple[dict[str, Any], ...] = field(repr=False)


@dataclass(frozen=True)
class SearchResult(Found):
    """The seed that a search found; the trace has a record per step, and those of a race after them."""


@dataclass(frozen=True)
class ScaleResult(Found):
    """The largest network of a series, or the one that won the race, and the series.

    The trace has a record per candidate, after those of a step the network that was chosen, and after all of
    them those of a race.

    Attributes:
        series: its networks, from small to large.
        targets: for each target, in parameters, the best network at or under it; empty without targets.
        stopped: why growing ended.
    """

    series: tuple[Network, ...] = field(repr=False)
    targets: Mapping[int, Network] = field(repr=False)
    stopped: str


def network_record(arch: Architecture, configs: RunConfigs) -> dict[str, Any]:
    """Plain data of a network: what it is measured on, costs of the classifier that is trained, configs."""
    data = configs.data
    return {
        'params': data.params(arch),
        'macs': data.macs(arch),
        'num_classes': data.num_classes,
        'train_img_size': data.img_size,
        **({} if data.in_channels == 3 else {'in_channels': data.in_channels}),
        'measured_on': {'data': data.spec, 'img_size': data.pixels},
        **configs.add(arch),
    }


def read_search_result(work_dir: Path) -> SearchResult:
    """The result of a complete search."""
    return SearchResult(**_found(_read_result(work_dir), work_dir))


def read_scale_result(work_dir: Path) -> ScaleResult:
    """The result of a complete scaling run."""
    result = _read_result(work_dir)
    targets = {
        best['target']: Network(**_network(best, work_dir)) for best in result.get('targets', ())
    }
    return ScaleResult(
        **_found(result, work_dir),
        series=tuple(Network(**_network(member, work_dir)) for member in result['series']),
        targets=targets,
        stopped=result['stopped'],
    )


def read_found(path: Path) -> dict[str, Any]:
    """The content of the result.json or so_far.json of a run.

    Raises:
        InputError: the file is neither, or its costs are not those of its architecture.
    """
    advice = 'give the result.json of a search'
    found = read_object(path, advice)
    arch, size, classes = map(found.get, ('arch', 'train_img_size', 'num_classes'))
    channels = found.get('in_channels', 3)
    if not isinstance(arch, str):
        raise InputError(f'{str(path)!r} is no result of a search: {advice}')
    # What a scaling run has found so far has the costs of the members of its series only.
    if 'params' in found:
        params = None
        if type(size) is type(classes) is type(channels) is int:
            known = as_architecture(arch)
            params = count_params(known, classes, img_size=size, in_channels=channels)
        if found['params'] != params:
            raise InputError(
                f'{str(path)!r} was changed: {found["params"]!r} are not the parameters of {arch}; '
                f'{advice} as it was written'
            )
    return found


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


def found_rows(found: Found) -> dict[str, str]:
    """The lines about limits, race and front of a printed summary."""
    rows = {}
    for use in found.budget:
        used, value = use['used'], use['value']
        share = '-' if used is None else f'{used / value:.0%}'
        rows[f'of {use["limit"]}'] = f'{share} of {value:,} {use["unit"]}: {use["why"]}'
    if found.race is not None:
        first, *others = found.race['finalists']
        rows['race'] = (
            f'won against {len(others)} with {first["top1"][-1]:.2f} % of {found.race["held_out"]:,} images '
            f'held out, after {found.race["rounds"][-1]["epochs"]} epochs'
        )
    if found.front:
        least, most = (format_count(one.macs) for one in (found.front[0], found.front[-1]))
        rows['front'] = (
            f'{len(found.front)} networks, {least} to {most} multiply-adds, with configs'
        )
        if len(found.front) == 1:
            rows['front'] = f'one network, {least} multiply-adds: it beats all that cost more'
    return rows


def _read_result(work_dir: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((work_dir / 'result.json').read_text(encoding='utf-8'))
    return result


def _found(result: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """The arguments of :class:`Found`."""
    return {
        **_network(result, work_dir),
        'work_dir': work_dir,
        'front': tuple(Network(**_network(one, work_dir)) for one in result['front']),
        'budget': tuple(result['budget']),
        'race': result['race'],
        'records': _read_trace(work_dir),
    }


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
        'measured_on': record['measured_on'],
        **{name: work_dir / record[name] for name in ('config', 'detection_config')},
    }
