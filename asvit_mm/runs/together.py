"""One process that runs a job, and the others of its launcher, which help it to measure."""

from collections.abc import Callable
from typing import Any

from mmengine.dist import is_main_process

from ..engine.distributed import start_processes
from ..nas import help_measuring, with_helpers
from .settings import RunSettings, find_device


def lead(settings: RunSettings, job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run the job in the first process, and in the others help it to measure until it ends.

    Returns:
        what the job does; in the other processes nothing.

    Raises:
        InputError: the job's, in all processes; or see :func:`~asvit_mm.engine.distributed.start_processes`.
    """
    start_processes(settings.launcher, find_device(settings.device))
    if not is_main_process():
        help_measuring()
        return {}
    with with_helpers():
        return job()
