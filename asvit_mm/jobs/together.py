"""One process that runs a job, and the others of its launcher, which help it to measure."""

from mmengine.dist import is_main_process

from ..distributed import start_processes
from ..searching import help_measuring
from .resume import RunSettings
from .setup import find_device


def lead(settings: RunSettings) -> bool:
    """Whether this process runs the job; False once the one that does needs no more help.

    Raises:
        InputError: see :func:`~asvit_mm.distributed.start_processes`.
    """
    start_processes(settings.launcher, find_device(settings.device))
    if is_main_process():
        return True
    help_measuring()
    return False
