"""What the parts of the report share: jobs, their context, comparisons and clocks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...utils.timing import now

Figures = dict[str, Any]

# A network for checks: odd head widths, kernels that overlap, windows in the first two stages.
TINY = '5,2,2,1|3,2,3,2|2,1,2,1|3,1,2,1|16,24'


class Skipped(Exception):
    """A row cannot be measured here; the message says why."""


@dataclass
class Context:
    """Where and how rows are measured.

    Args:
        device: ``'cpu'`` or ``'cuda'``.
        quick: whether networks and sizes are tiny.
        folder: what jobs may write into; removed at the end.
        cifar10: see :class:`.settings.CudaReportSettings`.
        deadline: of the part that is running, in seconds of ``time.time()``.
    """

    device: str
    quick: bool
    folder: Path
    cifar10: str | None = None
    deadline: float = 0.0

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def autocast(self, dtype: torch.dtype = torch.bfloat16) -> torch.autocast:
        """Mixed precision on the device."""
        return torch.autocast(self.device, dtype)


@dataclass(frozen=True)
class Job:
    """A row of the report.

    Args:
        table: title of the table that the row belongs to.
        name: of the row; unique in its part.
        run: measures it; returns its columns. ``passed`` makes it a check.
        limit: most seconds that it may take.
    """

    table: str
    name: str
    run: Callable[[], Figures]
    limit: float = 120.0


def relative_difference(value: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of ``expected`` (if not 0), in float64 on the CPU."""
    value, expected = value.detach().double().cpu(), expected.detach().double().cpu()
    return float((value - expected).norm() / (expected.norm() or 1))


def check(difference: float, tolerance: float, **figures: Any) -> Figures:
    """Columns of a check: a difference (relative, if not said otherwise) and what it may be."""
    passed = bool(difference <= tolerance)  # NaN does not pass
    return {'difference': difference, 'tolerance': tolerance, **figures, 'passed': passed}


def seconds_per_call(call: Callable[[], Any], device: str, budget: float, block: int = 4) -> float:
    """Median seconds of a call over blocks of calls, so that a GPU does not wait for the CPU in between.

    Args:
        budget: seconds to spend; at least two blocks are timed.
    """
    call()
    taken: list[float] = []
    begin = now(device)
    while len(taken) < 2 or (now(device) - begin < budget and len(taken) < 15):
        start = now(device)
        for _ in range(block):
            call()
        taken.append((now(device) - start) / block)
    return sorted(taken)[len(taken) // 2]


def random_images(count: int, *size: int, seed: int = 0) -> Tensor:
    """Standard normal images (count, 3, *size), the same on every device; one number is a square's side."""
    shape = size if len(size) == 2 else (*size, *size)
    return torch.randn(count, 3, *shape, generator=torch.Generator().manual_seed(seed))
