"""A table of networks of the search space, drawn at random within budgets and trained by one recipe.

It judges what claims to predict accuracy: measures, searches, short training. See docs/studies/bench. The
search never reads it.
"""

import json
import os
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

from ..arch import Architecture
from ..cost import count_macs, count_params
from ..data.folder import class_images, scan_folder
from ..data.images import read_image
from ..errors import InputError
from ..nas import space_for
from ..runs.settings import find_device
from ..utils.files import atomic_write_json, first_difference, read_object
from ..utils.timing import device_name
from .plain_training import Images, PlainRecipe, build_classifier, train_side_by_side
from .settings import BUDGETS, BenchBudget, BenchSettings

# A network uses at least this share of the tighter of its budget's limits.
LEAST_USAGE = 0.8
DEPTHS = (4, 4, 8, 4)
WIDTH_STEP = 4
# Of training, the mean loss of steps k/2 to k: what a training of k steps would have shown.
SHORT_STEPS = (20, 40, 80, 160, 320)


def draw_networks(
    budget: BenchBudget, img_size: int, classes: int, seed: int = 0
) -> list[Architecture]:
    """Networks whose topology, stride and depths are random, as wide as a random usage allows."""
    rng = np.random.default_rng([seed, budget.max_params, budget.max_macs])
    spaces = [space_for(img_size, stride) for stride in budget.strides]
    drawn: dict[Architecture, None] = {}
    while len(drawn) < budget.networks:
        topology = spaces[rng.integers(len(spaces))].sample(rng)
        depths = [int(rng.integers(1, most + 1)) for most in DEPTHS]
        wanted = rng.uniform(LEAST_USAGE, 1)
        widest = None
        for width in range(WIDTH_STEP * -(-topology.heads // 8 // WIDTH_STEP), 1024, WIDTH_STEP):
            arch = topology.with_size(depths, width)
            if budget.usage(arch, img_size, classes) > wanted:
                break
            widest = arch
        if widest and budget.usage(widest, img_size, classes) >= LEAST_USAGE:
            drawn[widest] = None
    return list(drawn)


def run_bench(settings: BenchSettings) -> None:
    """Train this process's share of the networks that have no record in the work dir; then write the table.

    A record is a network with one seed. Networks that are trained side by side do not influence each other,
    so neither what is shared nor what was there before changes a record, apart from its time.

    Raises:
        InputError: a mistake in the settings, or records of other images, or trained otherwise.
    """
    MMLogger.get_instance('mmengine').setLevel('WARNING')
    device = find_device(settings.device)
    begin = time.time()
    folder = Path(settings.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if device.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    train, test = read_split(settings.data, settings.img_size, device)
    classes = int(train.labels.max()) + 1
    recipe = PlainRecipe(epochs=settings.epochs)
    about = {
        'data': f'{len(train.labels)} training and {len(test.labels)} test images of {classes} classes',
        'img_size': settings.img_size,
        'recipe': asdict(recipe),
    }
    items = bench_items(settings, classes)
    for item in items:
        item.check(folder, about)
    share, count = settings.share
    mine = items[share::count]
    todo = [item for item in mine if not item.record(folder).exists()]
    for start in range(0, len(todo), settings.together):
        if time.time() - begin > 60 * settings.minutes:
            break
        group = todo[start : start + settings.together]
        models = [build_classifier(x.arch, settings.img_size, classes, x.seed) for x in group]
        trained = train_side_by_side(models, [x.seed for x in group], recipe, train, test)
        for item, network in zip(group, trained, strict=True):
            losses = network.losses
            means = {
                str(k): float(losses[k // 2 : k].mean()) for k in SHORT_STEPS if k <= len(losses)
            }
            record = {
                'budget': item.budget,
                'index': item.index,
                'seed': item.seed,
                'arch': str(item.arch),
                **about,
                'top1': network.top1,
                'train_loss': float(losses[-len(losses) // settings.epochs :].mean()),
                'short_loss': means,
                'seconds': network.seconds,
                'beside': len(group) - 1,
            }
            atomic_write_json(item.record(folder), record)
            print(f'{item.budget} {item.index} seed {item.seed}: {network.top1:.2f} %', flush=True)
    about |= {'device': device_name(device.type), 'torch': str(torch.__version__)}
    write_table(folder, items, about)


@dataclass(frozen=True)
class BenchItem:
    """A network of a budget and a seed."""

    budget: str
    index: int
    arch: Architecture
    seed: int

    def record(self, folder: Path) -> Path:
        """The file of its record."""
        return folder / f'{self.budget}-{self.index:03d}-{self.seed}.json'

    def check(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Raise an InputError if there is a record of another network, or not ``about`` the same."""
        file, advice = self.record(folder), 'give another --work-dir'
        if not file.exists():
            return
        mine, found = {**about, 'arch': str(self.arch)}, read_object(file, advice)
        if difference := first_difference({key: found.get(key) for key in mine}, mine):
            raise InputError(f'{str(file)!r} is of another table ({difference}): {advice}')


def bench_items(settings: BenchSettings, classes: int) -> list[BenchItem]:
    """All networks and seeds, first seeds first."""
    items = []
    for name in settings.budgets:
        budget = BUDGETS[name]
        archs = draw_networks(budget, settings.img_size, classes)
        items += [BenchItem(name, i, arch, 0) for i, arch in enumerate(archs)]
        items += [BenchItem(name, i, arch, 1) for i, arch in enumerate(archs[: budget.twice])]
    return sorted(items, key=lambda item: item.seed)


def write_table(folder: Path, items: Sequence[BenchItem], about: Mapping[str, Any]) -> None:
    """Write table.json from the records that are there."""
    networks: dict[tuple[str, int], dict[str, Any]] = {}
    classes = int(about['data'].split()[-2])
    for item in items:
        if not item.record(folder).exists():
            continue
        record = json.loads(item.record(folder).read_text())
        budget = BUDGETS[item.budget]
        entry = networks.setdefault(
            (item.budget, item.index),
            {
                'budget': item.budget,
                'index': item.index,
                'arch': str(item.arch),
                'params': count_params(item.arch, classes, img_size=about['img_size']),
                'macs': count_macs(item.arch, about['img_size'], classes),
                'usage': round(budget.usage(item.arch, about['img_size'], classes), 4),
                'runs': [],
            },
        )
        keys = ('seed', 'top1', 'train_loss', 'short_loss', 'seconds', 'beside')
        entry['runs'].append({key: record[key] for key in keys})
    budgets = {name: asdict(BUDGETS[name]) for name in dict.fromkeys(key[0] for key in networks)}
    table = {'schema': 1, **about, 'budgets': budgets, 'networks': list(networks.values())}
    atomic_write_json(folder / 'table.json', table)


def read_split(folder: str, img_size: int, device: torch.device) -> tuple[Images, Images]:
    """The training and test images of an image folder, resized where they are not of ``img_size``."""
    scan = scan_folder(folder)
    splits = []
    if not scan.classes or not scan.val:
        raise InputError(f'{folder!r} needs train/ and test/ with class folders')
    for root in (scan.path, os.path.join(folder, scan.val)):
        files = class_images(root)
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
