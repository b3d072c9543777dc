"""Search and scaling from Python: what tools/search.py and tools/scale.py do, as functions.

    >>> found = asvit_mm.search(data='digits', steps=60, repeat=2)
    >>> series = asvit_mm.scale(found.architecture, data='digits', min_params='2.5M', max_params='4M')

Their arguments are the fields of the settings that the tools fill, whose types and defaults they share; a
mistake raises :class:`~asvit_mm.errors.InputError`, whose message is the tools' one line.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from .arch import Architecture
from .config_writer.shipped import shipped_tools
from .runs.scale import run_scaling
from .runs.search import run_search
from .runs.settings import ScaleSettings, SearchSettings
from .utils.command_line import field_help

__all__ = ['Network', 'ScaleResult', 'SearchResult', 'scale', 'search']

P = ParamSpec('P')
S = TypeVar('S')
R = TypeVar('R')


@dataclass(frozen=True)
class Network:
    """A network that was found, what it costs, what was measured of it, and the configs that train it.

    Attributes:
        architecture: topology and size; ``str`` of it is what configs, tools and the backbone take.
        params: parameters of the classifier that ``config`` trains.
        macs: multiply-adds of an image of that classifier, at the size that it is trained at.
        length_distortion: L^E, higher is better; None where it could not be measured. In a series it is
            that of the proxy, a quarter as wide.
        ntk_condition_number: kappa, lower is better; otherwise the same.
        latency_ms: milliseconds an image of that classifier; None where the run has no ``max_latency``.
        config: of mmpretrain: trains the classifier.
        detection_config: of mmdet: trains Mask R-CNN with this backbone on COCO.
    """

    architecture: Architecture
    params: int
    macs: int
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
        records: of the trace, one a step.
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
        records: of the trace: a candidate each, and after those of a step the network that they gave.
    """

    work_dir: Path
    series: tuple[Network, ...] = field(repr=False)
    targets: Mapping[int, Network] = field(repr=False)
    stopped: str
    records: tuple[dict[str, Any], ...] = field(repr=False)


def _with_arguments(text: str, settings: Any) -> str:
    """A docstring with the fields of ``settings`` and their help as ``Args:``, before ``Raises:``."""
    helps = field_help(settings)
    arguments = [f'    {name}: {helps[name]}' for name in inspect.signature(settings).parameters]
    return text.replace('\n\nRaises:', '\n\nArgs:\n' + '\n'.join(arguments) + '\n\nRaises:')


def _takes(settings: Callable[P, S]) -> Callable[[Callable[[S], R]], Callable[P, R]]:
    """Give a function of settings the arguments of those settings: signature, types and help."""

    def decorate(function: Callable[[S], R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(settings(*args, **kwargs))

        own = inspect.signature(function)
        signature = inspect.signature(settings).replace(return_annotation=own.return_annotation)
        vars(call)['__signature__'] = signature
        call.__annotations__ = {
            **{name: parameter.annotation for name, parameter in signature.parameters.items()},
            'return': own.return_annotation,
        }
        call.__doc__ = _with_arguments(inspect.getdoc(function) or '', settings)
        return call

    return decorate


@_takes(SearchSettings)
def search(settings: SearchSettings) -> SearchResult:
    """Search a seed without training, or go on with a search (``resume=True``).

    Shows what tools/search.py shows and writes what it writes, into ``work_dir``: trace, result, configs
    and pictures. A search that is complete is not done again with ``resume=True``.

    Raises:
        InputError: a mistake in the arguments (nothing has been measured), results that are there
            already, or no network could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the search is and how to go on.
    """
    run_search(settings, shipped_tools())
    work_dir = Path(settings.work_dir)
    result, records = _read(work_dir)
    return SearchResult(**_network(result, work_dir), work_dir=work_dir, records=records)


@_takes(ScaleSettings)
def scale(settings: ScaleSettings) -> ScaleResult:
    """Scale a seed without training into a series of networks, or go on with that (``resume=True``).

    Shows what tools/scale.py shows and writes what it writes, into ``work_dir``: trace, result, configs
    and pictures. A run that is complete is not done again with ``resume=True``.

    Raises:
        InputError: a mistake in the arguments (nothing has been measured), results that are there
            already, or no candidate of the first step could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the run is and how to go on.
    """
    run_scaling(settings, shipped_tools())
    work_dir = Path(settings.work_dir)
    result, records = _read(work_dir)
    series = result['series']
    return ScaleResult(
        **_network(series[-1], work_dir),
        work_dir=work_dir,
        series=tuple(Network(**_network(member, work_dir)) for member in series),
        targets={
            member['target']: Network(**_network(member, work_dir))
            for member in result.get('targets') or ()
        },
        stopped=result['stopped'],
        records=records,
    )


def _read(work_dir: Path) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    """Result and trace of a complete run: in files, so that every process of a launcher has them."""
    result = json.loads((work_dir / 'result.json').read_text(encoding='utf-8'))
    trace = (work_dir / 'trace.jsonl').read_text(encoding='utf-8')
    return result, tuple(map(json.loads, trace.splitlines()))


def _network(fields: Mapping[str, Any], work_dir: Path) -> dict[str, Any]:
    """What :class:`Network` takes, from the plain data of a result."""
    return {
        'architecture': Architecture.parse(fields['arch']),
        **{
            name: fields[name]
            for name in ('params', 'macs', 'length_distortion', 'ntk_condition_number')
        },
        'latency_ms': fields.get('latency_ms'),
        **{name: work_dir / fields[name] for name in ('config', 'detection_config')},
    }
