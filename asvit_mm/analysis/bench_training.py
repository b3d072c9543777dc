"""Train networks of the table's budgets: the table itself (:mod:`.bench`), and what searches found."""

import hashlib
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger
from scipy import stats

from ..arch import Architecture, as_architecture
from ..data.folder import class_images, scan_folder
from ..data.images import read_image
from ..errors import InputError
from ..models.classifier import build_classifier, classifier_config
from ..runs.results import read_found
from ..runs.settings import find_device
from ..utils.files import atomic_write_json, first_difference, read_object, relative
from ..utils.timing import device_name
from .bench import (
    TrainedBudget,
    draw_networks,
    load_bench,
    network_costs,
    read_record,
    read_records,
    write_table,
)
from .plain_training import Images, PlainRecipe, train_side_by_side
from .settings import BUDGETS, BenchSettings, BudgetTrainingSettings, OutcomeSettings

# Of training, the mean loss of steps k/2 to k: what a training of k steps would have shown.
SHORT_STEPS = (20, 40, 80, 160, 320)


@dataclass(frozen=True)
class BenchItem:
    """A network of a budget and a seed.

    Attributes:
        index: see :class:`.bench.BenchNetwork`; None of a network that is not the table's.
    """

    budget: str
    index: int | None
    arch: Architecture
    seed: int

    def record(self, folder: Path) -> Path:
        """The file of its record."""
        if self.index is None:
            name = hashlib.sha256(str(self.arch).encode()).hexdigest()[:16]
        else:
            name = f'{self.index:03d}'
        return folder / f'{self.budget}-{name}-{self.seed}.json'

    def check(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Raise an InputError if there is a record of another network, or not ``about`` the same."""
        file, advice = self.record(folder), 'give another --work-dir'
        if not file.exists():
            return
        mine, found = {**about, 'arch': str(self.arch)}, read_record(file)
        if difference := first_difference({key: found.get(key) for key in mine}, mine):
            raise InputError(f'{str(file)!r} is of another table ({difference}): {advice}')


def run_bench(settings: BenchSettings) -> None:
    """Train this process's share of the networks that have no record in the work dir; then write the table.

    Raises:
        InputError: a mistake in the settings, or records of other images, or trained otherwise.
    """
    folder = Path(settings.work_dir)
    read_records(folder)  # what cannot be read is said before the training
    train_items(bench_items(settings.budgets), settings, folder)
    print(f'written: {relative(write_table(folder))}')


def bench_items(budgets: Sequence[str]) -> list[BenchItem]:
    """All networks and seeds, first seeds first."""
    items = []
    for budget in map(BUDGETS.__getitem__, budgets):
        archs = draw_networks(budget)
        items += [BenchItem(budget.name, i, arch, 0) for i, arch in enumerate(archs)]
        items += [
            BenchItem(budget.name, i, arch, 1) for i, arch in enumerate(archs[: budget.twice])
        ]
    return sorted(items, key=lambda item: item.seed)


def run_outcome(settings: OutcomeSettings) -> None:
    """Train what searches found as the table's networks were, and write report.json.

    It has for each budget, and keeps for those that it had before: ``limits``, ``table`` (number of
    ``networks`` and their ``top1``, the mean over the seeds, in ascending order) and ``found``, a list with,
    for each network, what was ``given``, the ``settings`` of the search, ``arch``, ``params``, ``macs``,
    ``usage``, ``runs`` (a record each), ``top1`` (mean over the runs), its ``percentile`` among the table's
    networks (those that are equal count half) and those of ``each`` run.

    Raises:
        InputError: a mistake in the settings, a network that exceeds its budget, no table of the budget, or
            one of other images or another recipe.
    """
    bench = load_bench(settings.table)
    folder = Path(settings.work_dir)
    file, advice = folder / 'report.json', 'remove it, or give another --work-dir'
    report = read_object(file, advice) if file.exists() else {'budgets': {}}
    if not isinstance(report.get('budgets'), dict):
        raise InputError(f'{str(file)!r} is no report of what searches found: {advice}')
    given: list[tuple[str, Architecture, dict[str, Any]]] = []
    for text in settings.found:
        name, equals, what = text.partition('=')
        if not equals or name not in BUDGETS:
            raise InputError(
                f'{text!r} names no budget: give BUDGET=FOUND with one of {", ".join(BUDGETS)}'
            )
        bench.of(name)
        path = Path(what)
        search = None
        if '|' not in what:
            search = read_found(path / 'result.json' if path.is_dir() else path)
        arch = as_architecture(search['arch'] if search else what)
        costs = network_costs(arch, bench.budgets[name].limits)
        if costs['usage'] > 1:
            raise InputError(
                f'{arch} exceeds {name}: it has {costs["params"]:,} parameters and '
                f'{costs["macs"]:,} multiply-adds; search within the limits of the budget'
            )
        about = {'settings': (search or {}).get('settings'), 'arch': str(arch), **costs}
        given.append((name, arch, {'budget': name, 'given': what, **about}))
    names = list(dict.fromkeys(name for name, _, _ in given))

    def trainings(name: str, arch: Architecture) -> list[BenchItem]:
        return [BenchItem(name, None, arch, seed) for seed in range(settings.seeds)]

    # Two searches may have found the same network.
    items = list(dict.fromkeys(x for name, arch, _ in given for x in trainings(name, arch)))
    records = folder / 'records'
    train_items(items, settings, records, {name: bench.budgets[name] for name in names})
    missing = [item for item in items if not item.record(records).exists()]
    if missing:
        print(f'{len(missing)} of {len(items)} trainings are missing: no report yet')
        return
    for name in names:
        table = sorted(network.top1 for network in bench.of(name))
        rows = []
        for arch, row in ((arch, row) for budget, arch, row in given if budget == name):
            runs = [read_record(item.record(records)) for item in trainings(name, arch)]
            each = [run['top1'] for run in runs]
            mean = statistics.fmean(each)
            percentiles = [float(stats.percentileofscore(table, x, 'mean')) for x in (mean, *each)]
            results = {'top1': mean, 'percentile': percentiles[0], 'each': percentiles[1:]}
            rows.append({**row, **results, 'runs': runs})
            print(
                f'{name}: {row["arch"]} uses {row["usage"]:.0%}, top-1 {mean:.2f} %, percentile '
                f'{percentiles[0]:.0f} of {len(table)} networks'
            )
        limits = asdict(bench.budgets[name].limits)
        shown = {'networks': len(table), 'top1': table}
        report['budgets'][name] = {'limits': limits, 'table': shown, 'found': rows}
    print(f'written: {relative(atomic_write_json(file, report))}')


def train_items(
    items: Sequence[BenchItem],
    settings: BudgetTrainingSettings,
    folder: Path,
    tables: Mapping[str, TrainedBudget] | None = None,
) -> None:
    """Train this process's share of the items that have no record in ``folder``, and write their records.

    Networks that are trained side by side do not influence each other, so neither what is shared nor what
    was there before changes a record, apart from its time.

    Args:
        tables: budgets by name that the networks are to be compared with.

    Raises:
        InputError: budgets that are trained differently, or records or tables of other images, or trained
            otherwise.
    """
    MMLogger.get_instance('mmengine').setLevel('WARNING')
    device = find_device(settings.device)
    begin = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    if device.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    budgets = [BUDGETS[name] for name in dict.fromkeys(item.budget for item in items)]
    first = budgets[0]
    if len({(b.img_size, b.epochs, b.classes) for b in budgets}) > 1:
        raise InputError(
            'budgets of different images are trained one after the other: give those of one'
        )
    train, test = read_split(settings.data, first.img_size, device)
    classes = int(train.labels.max()) + 1
    if classes != first.classes:
        raise InputError(
            f'{settings.data!r} has {classes} classes, and the networks of {first.name} are drawn for '
            f'{first.classes}: give the images that docs/studies/bench names'
        )
    recipe = PlainRecipe(epochs=first.epochs)
    about = {
        'data': f'{len(train.labels)} training and {len(test.labels)} test images of {classes} classes',
        'img_size': first.img_size,
        'recipe': asdict(recipe),
    }
    for name, table in (tables or {}).items():
        if difference := first_difference(table.about, about):
            raise InputError(
                f'the networks of the table of {name} were trained otherwise ({difference}): give the '
                'images that it names, or another --table'
            )
    for item in items:
        item.check(folder, about)
    share, count = settings.share
    todo = [item for item in items[share::count] if not item.record(folder).exists()]
    for start in range(0, len(todo), settings.together):
        if time.time() - begin > 60 * settings.minutes:
            break
        group = todo[start : start + settings.together]
        models = [
            build_classifier(classifier_config(x.arch, classes, img_size=first.img_size), x.seed)
            for x in group
        ]
        trained = train_side_by_side(models, [x.seed for x in group], recipe, train, test)
        for item, network in zip(group, trained, strict=True):
            losses = network.losses
            means = {
                str(k): float(losses[k // 2 : k].mean()) for k in SHORT_STEPS if k <= len(losses)
            }
            record = {
                **{**asdict(item), 'arch': str(item.arch)},
                **about,
                'top1': network.top1,
                'train_loss': float(losses[-len(losses) // first.epochs :].mean()),
                'short_loss': means,
                'seconds': network.seconds,
                'beside': len(group) - 1,
                'device': device_name(device.type),
                'torch': str(torch.__version__),
            }
            atomic_write_json(item.record(folder), record)
            number = item.arch if item.index is None else item.index
            print(f'{item.budget} {number} seed {item.seed}: {network.top1:.2f} %', flush=True)


def read_split(
    folder: str, img_size: int, device: torch.device, most: int | None = None
) -> tuple[Images, Images]:
    """The training and test images of an image folder, resized where they are not of ``img_size``.

    Args:
        most: images of each class, the first ones; None: all.
    """
    scan = scan_folder(folder)
    splits = []
    if not scan.classes or not scan.val:
        raise InputError(f'{folder!r} needs train/ and test/ with class folders')
    for root in (scan.path, os.path.join(folder, scan.val)):
        files = {name: found[:most] for name, found in class_images(root).items()}
        names = [os.path.join(root, file) for names in files.values() for file in names]
        with ThreadPoolExecutor() as pool:
            pixels = list(pool.map(partial(_square, img_size=img_size), names, chunksize=64))
        labels = [label for label, names in enumerate(files.values()) for _ in names]
        splits.append(Images(torch.from_numpy(np.stack(pixels)), torch.tensor(labels)).to(device))
    return splits[0], splits[1]


def _square(file: str, img_size: int) -> np.ndarray:
    image = read_image(file)
    if image.size != (img_size, img_size):
        image = image.resize((img_size, img_size))
    return np.asarray(image)
