"""The race of a run's finalists: networks trained for a short time on the user's data, until one is left.

See :mod:`asvit_mm.nas.race` for the rounds. Every training is that of the written config, shortened, through
MMEngine's Runner. Part of the training images are held out to compare by; the validation set is not touched.
"""

import multiprocessing
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS

from ..arch import PRESETS, Architecture
from ..data.source import DataSource, describe_data
from ..engine.distributed import find_share
from ..errors import InputError, one_line
from ..nas import Cost, Round, call_on_all_ranks, going_on, plan_race, rank_by_accuracy
from ..utils.files import file_name
from .folder import RunFolder
from .progress import show_progress
from .settings import RunSettings, find_device
from .training import Split, train_and_test, training_config

# One of five training images is held out, or fewer where that would be more than these.
HELD_OUT = 5
MAX_HELD_OUT = 5000
# Batches of the training that is timed.
TIMED_BATCHES = 6

Record = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """One training of a race, as a process of the launcher receives it.

    Attributes:
        data, img_size: see :func:`~asvit_mm.data.source.describe_data`.
        timed: whether it is done for its time only.
        root, name, kept: see :func:`~.training.train_and_test`.
    """

    data: str
    img_size: int
    arch: Architecture
    epochs: int
    validations: int
    split: Split
    seed: int
    device: str
    launcher: str
    threads: int
    root: str
    name: str
    kept: str
    timed: bool = False


class Race:
    """Trains finalists by successive halving; every training is a line of the run's trace.

    The plan is made once, from the time that a few batches of each finalist take, and is a line of the trace
    too. So a race that is resumed ends as it would have ended.

    Args:
        settings: of the run.
        data: what is trained on.

    Attributes:
        leader: the best of the last round that is complete; None before.

    Raises:
        InputError: data that cannot be trained on or of which no images can be held out.
    """

    def __init__(self, settings: RunSettings, data: DataSource) -> None:
        self.settings, self.data = settings, data
        self.leader: Architecture | None = None
        self.images, self.batch_size = _count_images(data)
        self.every = max(HELD_OUT, self.images // MAX_HELD_OUT)
        self.available = self.images - self.images // self.every
        if self.images < self.every:
            raise InputError(
                f'{data.root!r} has {self.images} images to train on, too few for a race: leave '
                '--finalists out'
            )

    def run(
        self,
        finalists: Sequence[Architecture],
        macs: Callable[[Architecture], int],
        folder: RunFolder,
    ) -> Record:
        """Race the finalists.

        Returns:
            for the result: ``images``, ``held_out``, ``rounds``, ``finalists`` (from the winner on, each
            with its ``arch`` and its ``top1`` of every round, in per cent, or why it ``failed``) and the
            ``curve`` of the winner, pairs of epoch and accuracy.

        Raises:
            InputError: no finalist could be trained.
        """
        kept = [record for record in folder.kept if 'race' in record]
        self.folder, self.kept = folder, kept
        # A killed run leaves it, and the folder is removed when the run is opened again.
        with tempfile.TemporaryDirectory(dir=folder.path, prefix='.race.') as root:
            self.root = root
            return self._run(finalists, macs)

    def _run(
        self, finalists: Sequence[Architecture], macs: Callable[[Architecture], int]
    ) -> Record:
        folder = self.folder
        plan = self._plan(finalists)
        standing, order = list(finalists), list(finalists)
        accuracies: dict[Architecture, list[float]] = {arch: [] for arch in finalists}
        failures: dict[Architecture, str] = {}
        curve: list[Any] = []
        done, total = 0, sum(one.networks for one in plan)
        with show_progress('race', total) as show:
            for number, one in enumerate(plan, 1):
                trainings = [self._training(arch, number, one) for arch in standing]
                found: dict[Architecture, Record] = {}
                for training, record in self._complete('training', trainings):
                    done += 1
                    found[training.arch] = record
                    if not folder.replaying:
                        best = '' if self.leader is None else f'best so far {self.leader}  '
                        show(done, f'{best}({training.arch}: {_describe(record)})')
                for arch, record in found.items():
                    if 'top1' in record:
                        accuracies[arch].append(record['top1'])
                    else:
                        failures[arch] = str(record.get('failed'))
                ranked = [
                    standing[i]
                    for i in rank_by_accuracy(
                        [found[arch].get('top1') for arch in standing],
                        [macs(arch) for arch in standing],
                    )
                ]
                if 'top1' not in found[ranked[0]]:
                    raise InputError(f'no finalist could be trained ({failures[ranked[0]]})')
                keep = plan[number].networks if number < len(plan) else 1
                standing = going_on([arch for arch in ranked if arch not in failures], keep)
                behind = [arch for arch in ranked if arch not in standing]
                order = [*standing, *behind, *order[len(ranked) :]]
                self.leader, curve = ranked[0], found[ranked[0]].get('curve', [])
        return {
            'images': self.available,
            'held_out': self.images - self.available,
            'rounds': [one.to_record() for one in plan],
            'finalists': [
                {
                    'arch': str(arch),
                    'top1': accuracies[arch],
                    **({'failed': failures[arch]} if arch in failures else {}),
                }
                for arch in order
            ],
            'curve': curve,
        }

    def _plan(self, finalists: Sequence[Architecture]) -> list[Round]:
        """The rounds, from the trace or from the time that trainings take."""
        began = time.monotonic()
        batches = min(self.available, TIMED_BATCHES * self.batch_size)
        timed = Round(len(finalists), 1, batches)
        trainings = [self._training(arch, 0, timed) for arch in finalists]
        costs = []
        for _, record in self._complete('timing', trainings):
            seconds = [record.get(name) for name in ('fixed', 'per_image', 'validation')]
            if all(isinstance(value, float) for value in seconds):
                costs.append(Cost(*seconds))
        if not costs:
            raise InputError(f'no finalist could be trained ({record.get("failed")})')
        # The first training of a process waits for imports.
        fixed = min(cost.fixed for cost in costs)
        costs = [replace(cost, fixed=fixed) for cost in costs]
        costs += [max(costs, key=lambda cost: cost.per_image)] * (len(finalists) - len(costs))
        plan = plan_race(
            costs,
            max(0.0, 60 * self.settings.race_minutes - (time.monotonic() - began)),
            dist.get_world_size(),
            self.available,
            self.batch_size,
        )
        if self.kept:
            # What is no plan differs from this one, and is refused.
            with suppress(TypeError):
                rounds: list[dict[str, Any]] = self.kept.pop(0).get('rounds') or []
                plan = [Round(**one) for one in rounds] or plan
        self.folder.append({'race': 'plan', 'rounds': [one.to_record() for one in plan]})
        if not self.folder.replaying:
            words = '; '.join(
                f'{one.networks} networks see {one.images:,} images {one.epochs} times'
                for one in plan
            )
            print(f'race: {words}')
            if plan[0].images < self.available:
                print(
                    'note: the race has no time for all images in its first round: give more '
                    '--race-minutes or fewer --finalists'
                )
        return plan

    def _training(self, arch: Architecture, number: int, one: Round) -> Training:
        settings, name = self.settings, f'{number}-{arch}'
        return Training(
            self.data.spec,
            self.data.img_size,
            arch,
            one.epochs,
            one.validations,
            Split(one.images, self.every, self.images),
            settings.seed,
            str(find_device(settings.device)),
            settings.launcher,
            self.folder.run['threads'],
            self.root,
            name,
            # Outside the root, which is removed.
            str(self.folder.path / 'race' / f'{file_name(name)}.traceback.txt'),
            timed=number == 0,
        )

    def _complete(self, kind: str, trainings: Sequence[Training]) -> Any:
        """The trainings, each with its record: from the trace, or made now, every rank its share."""
        names = {'timing': ('fixed', 'per_image', 'validation'), 'training': ('top1', 'curve')}[
            kind
        ]
        rest = list(trainings)

        def append(training: Training, found: Mapping[str, Any]) -> tuple[Training, Record]:
            record = {
                'race': kind,
                'arch': str(training.arch),
                'epochs': training.epochs,
                'images': training.split.trained,
                # What else is in a line of the trace makes it differ, and is refused.
                **{n: found[n] for n in names if isinstance(found.get(n), float | list)},
                **({'failed': str(found['failed'])} if 'failed' in found else {}),
            }
            self.folder.append(record)
            return training, record

        while rest and self.kept:
            yield append(rest.pop(0), self.kept.pop(0))
        while rest:
            some = rest[: dist.get_world_size()]
            del rest[: len(some)]
            for training, found in zip(some, call_on_all_ranks(train_apart, some), strict=True):
                yield append(training, found)


def train_apart(training: Training) -> Record:
    """Train here, or, under a launcher, in a child process: MMEngine would split the data over all ranks."""
    if not dist.is_distributed():
        return train(training)
    try:
        return _child().submit(train, training).result()
    except BrokenProcessPool:
        _child.cache_clear()
        return {'failed': 'its process was ended, perhaps for want of memory'}


def train(training: Training) -> Record:
    """Train one network: ``top1`` and ``curve``, or its times, or why it ``failed``.

    Raises:
        InputError: the data cannot be trained on.
    """
    started = time.perf_counter()
    torch.set_num_threads(training.threads)
    device = find_share(training.launcher).device(torch.device(training.device))
    cfg = training_config(
        training.arch,
        describe_data(training.data, training.img_size),
        epochs=training.epochs,
        seed=training.seed,
        workers=4 if device.type == 'cuda' else 0,
        validate=not training.timed,
        split=training.split,
    )
    interval = -(-training.epochs // training.validations)
    cfg.train_cfg.val_interval = interval
    try:
        trained = train_and_test(
            cfg, Path(training.root), training.name, device, kept=Path(training.kept)
        )
    except InputError as error:
        # What else fails is a mistake in data or config, and fails for all networks.
        if not isinstance(error.__cause__, RuntimeError | ArithmeticError):
            raise
        return {'failed': one_line(error.__cause__)}
    if training.timed:
        fixed = time.perf_counter() - started - trained.seconds - trained.testing
        return {
            'fixed': round(fixed, 3),
            'per_image': round(trained.per_image, 7),
            'validation': round(trained.testing, 3),
        }
    epochs = [e for e in range(1, training.epochs + 1) if not e % interval or e == training.epochs]
    curve = [round(value, 3) for value in trained.curve]
    return {'top1': curve[-1], 'curve': list(map(list, zip(epochs, curve, strict=True)))}


@cache
def _child() -> ProcessPoolExecutor:
    """A process for the trainings of this one, which ends with it."""
    context = multiprocessing.get_context('spawn')
    return ProcessPoolExecutor(1, context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # MMEngine says that it forks the workers of data loaders although this process was spawned.
    warnings.filterwarnings('ignore', 'Multi-processing start method')
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _count_images(data: DataSource) -> tuple[int, int]:
    """Number of training images, and the batch size.

    Raises:
        InputError: data without labels, or a data set that cannot be divided.
    """
    cfg = training_config(PRESETS['seed'], data, epochs=1, split=Split(0, 1, 0))
    settings = cfg.train_dataloader.dataset
    # As the user has them, not as they were split.
    del settings['indices']
    if data.config and 'indices' in data.config.train_dataloader.dataset:
        settings.indices = data.config.train_dataloader.dataset.indices
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            dataset = DATASETS.build(settings)
    except InputError:
        raise
    # Whatever the user's dataset raises is an error of the config.
    except Exception as error:
        raise InputError(
            f'the training set of {data.root!r} cannot be read: {one_line(error)}'
        ) from error
    if not isinstance(dataset, BaseDataset):
        raise InputError(
            f'{data.root!r} trains on a {type(dataset).__name__}, of which no images can be held out for a '
            'race: give its data set without a wrapper, or leave --finalists out'
        )
    return len(dataset), cfg.train_dataloader.batch_size


def _describe(record: Mapping[str, Any]) -> str:
    return f'{record["top1"]:.2f} %' if 'top1' in record else 'failed'
