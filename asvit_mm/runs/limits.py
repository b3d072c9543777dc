"""The limits of a run: read from its settings, and refused before any work where none can be kept."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..data.source import DataSource
from ..nas import Budget, Clock, Latency, known_latencies
from .settings import RunSettings, find_device


def read_budget(settings: RunSettings, data: DataSource, max_params: str | int | None) -> Budget:
    """The limits in closed form, on the classifier that the configs train.

    Raises:
        InputError: a limit that is no positive number.
    """
    return Budget.parse(
        data.num_classes, data.img_size, max_params=max_params, max_flops=settings.max_flops
    )


def read_latency(
    settings: RunSettings, data: DataSource, records: Iterable[Mapping[str, Any]] = ()
) -> Latency | None:
    """The limit on the latency; None where there is none.

    Args:
        records: of the run that is taken up, whose latencies are not measured again.

    Raises:
        InputError: a limit that is no positive number, or a record without an architecture.
    """
    if settings.max_latency is None:
        return None
    clock = Clock(data.num_classes, data.img_size, find_device(settings.device))
    return Latency(clock, settings.max_latency, known_latencies(records))


def check_latency(
    settings: RunSettings, data: DataSource, smallest: Iterable[Architecture], what: str
) -> None:
    """Refuse a limit on the latency that the smallest networks do not keep.

    A run that is taken up has passed this; its latencies are those of its trace.

    Args:
        smallest: timed here.
        what: they are called.

    Raises:
        InputError: none keeps it; names the fastest.
    """
    latency = read_latency(settings, data)
    taken_up = settings.resume and (Path(settings.work_dir) / 'run.json').exists()
    if latency is not None and not taken_up:
        latency.keeping(smallest, what)
