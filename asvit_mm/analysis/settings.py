"""What the studies have in common: settings, records that are shared out, the command in the report."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..engine.distributed import Share, find_share, wait_for_all
from ..errors import InputError, ShareError
from ..runs.progress import Screen
from ..runs.settings import JobSettings, Launcher, MeasuringSettings, check_at_least, find_device
from ..runs.setup import versions
from . import StudyFolder


@dataclass(frozen=True, kw_only=True)
class StudySettings(JobSettings):
    """Settings of a study.

    Args:
        threads: of torch in each process; part of the study, as sums depend on it in the last digits.
        launcher: 'none', or 'pytorch' where torchrun started the processes.
        resume: whether a study in ``work_dir`` goes on.

    Raises:
        InputError: a value out of range.
    """

    threads: int = 1
    launcher: Launcher = 'none'
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least('--threads', self.threads, 1)

    def versions(self) -> dict[str, str]:
        """What decides the last digits, the machine apart: another of its kind may go on."""
        found = versions(find_device(self.device))
        del found['device']
        return found


@dataclass(frozen=True, kw_only=True)
class MeasuringStudySettings(StudySettings, MeasuringSettings):
    """Settings of a study that measures networks."""

    def measuring(self) -> dict[str, Any]:
        """How a network is measured, as plain data; a resumed study must have the same."""
        return {
            'data': self.data,
            'img_size': self.pixels,
            'batch_size': self.batch_size,
            'repeat': self.repeat,
            'seed': self.seed,
            'threads': self.threads,
            'device': find_device(self.device).type,
        }


def take_share(settings: StudySettings) -> tuple[Share, torch.device]:
    """This process's share and its device; the number of threads holds from here on.

    Raises:
        InputError: not started by the launcher.
    """
    share = find_share(settings.launcher)
    device = share.device(find_device(settings.device))
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    torch.set_num_threads(settings.threads)
    return share, device


def open_study(folder: StudyFolder, settings: StudySettings, share: Share) -> None:
    """Open the folder in the first process, and let the others join; says what is done already.

    Raises:
        InputError: see :meth:`~asvit_mm.analysis.StudyFolder.open`.
    """
    if share.rank == 0:
        folder.open(resume=settings.resume, overwrite=settings.overwrite)
        if done := folder.done():
            print(
                f'resumed: {len(done)} of {len(folder.study["architectures"])} architectures are done'
            )
    wait_for_all(share, 'folder')
    folder.join()


@contextmanager
def own_share() -> Iterator[None]:
    """Mark what goes wrong within the block as this process's own, so that it is printed.

    Raises:
        ShareError: for an :class:`~asvit_mm.errors.InputError`.
    """
    try:
        yield
    except InputError as error:
        raise ShareError(str(error)) from None


def complete_records(
    folder: StudyFolder,
    share: Share,
    complete: Callable[[int], dict[str, Any]],
    describe: Callable[[Mapping[str, Any]], str],
) -> None:
    """Write the records that this process's architectures lack; the first shows all processes'.

    Args:
        complete: gives the record of an architecture by its index.
        describe: a record in a few words, for the screen.
    """
    total, done = len(folder.study['architectures']), set(folder.done())
    todo = [index for index in share.of(total) if index not in done]
    if share.rank != 0:
        with own_share():
            for index in todo:
                folder.write(complete(index))
        return
    with Screen('study', total).shown() as screen:
        for index in todo:
            record = complete(index)
            folder.write(record)
            screen.update(len(folder.done()), describe(record))


def study_command(script: str, work_dir: str, *named: str, **flags: object) -> str:
    """The command that makes a study in one process.

    Args:
        script: file name of the tool.
        named: its positional arguments.
        flags: name and value of every other argument.
    """
    words = ['python', f'tools/analysis_tools/{script}', *named, '--work-dir', work_dir]
    for name, value in flags.items():
        # torchrun takes --num for an abbreviation of its own options.
        words.append('--num-archs' if name == 'num' else f'--{name.replace("_", "-")}')
        words += map(str, value if isinstance(value, (list, tuple)) else [value])
    return shlex.join(words)
