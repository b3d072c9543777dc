"""Timing calls side by side: one clock, and rounds in turn, so that a machine that drifts slows all alike."""

import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch


def time_in_turn(
    calls: Sequence[Callable[[], Any]],
    device: str,
    rounds: int,
    report: Callable[[str], None] = lambda text: None,
) -> list[list[float]]:
    """Seconds of every call in every round; a round makes each call once, in turn.

    Args:
        device: where the calls compute, ``'cpu'`` or ``'cuda'``.
        report: told which round begins.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for i in range(rounds):
        report(f'round {i + 1} of {rounds}')
        for call, taken in zip(calls, seconds, strict=True):
            begin = now(device)
            call()
            taken.append(now(device) - begin)
    return seconds


def now(device: str | torch.device) -> float:
    """Seconds on the clock, once the device has finished all work."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def median_and_spread(seconds: Sequence[float]) -> tuple[float, float]:
    """The median, and the third minus the first quartile as a share of it."""
    low, median, high = np.percentile(seconds, [25, 50, 75]).tolist()
    return median, (high - low) / median


def device_name(device: str) -> str:
    """What figures of ``device`` (``'cpu'`` or ``'cuda'``) were measured on, for people."""
    if device == 'cuda' and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    capability = torch.backends.cpu.get_cpu_capability()
    return f'{platform.machine()} CPU, {torch.get_num_threads()} threads, {capability}'
