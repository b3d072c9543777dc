"""Settings of the CUDA report. Imports nothing heavy: a tool's ``-h`` must not wait for torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ...errors import InputError
from ...runs.settings import find_device
from ...utils.command_line import check_values, option

Part = Literal['correct', 'fast', 'method', 'training']
PARTS: tuple[str, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True)
class CudaReportSettings:
    """What is reported, and where to.

    Raises:
        InputError: a value that is not allowed.
    """

    out: str = 'work_dirs/cuda_report'
    """folder of report.json and report.md; nothing is written outside it"""
    device: Literal['cpu', 'cuda'] = 'cuda'
    """what to report on; cpu is a rehearsal"""
    parts: Sequence[Part] = option(default=PARTS, choices=PARTS)
    """which parts, in this order (default: all)"""
    cifar10: str | None = None
    """CIFAR-10 for the part training: a folder with class folders of images in train/ and test/, or an npz
    file of the JPEG images (default: that part is skipped)"""
    minutes: float = 8.0
    """for all parts together; what a part does not need goes to the next ones"""
    quick: bool = False
    """tiny networks and sizes, for a rehearsal on a CPU"""

    def __post_init__(self) -> None:
        check_values(self)
        if not 0 < self.minutes < 1440:
            raise InputError(f'--minutes {self.minutes} is no time limit: give minutes, such as 8')

    def check(self) -> None:
        """Refuse a device or data that are not there, and a folder that holds a report.

        Raises:
            InputError: so it is.
        """
        find_device(self.device)
        if self.cifar10 is not None and not Path(self.cifar10).exists():
            raise InputError(f'--cifar10 {self.cifar10!r} is not there')
        report = Path(self.out) / 'report.json'
        if report.exists():
            raise InputError(f'{str(report)!r} is there already: give another folder as --out')
