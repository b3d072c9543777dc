"""A table of networks of the search space, drawn at random within budgets and trained by one recipe.

It judges what claims to predict accuracy: measures, searches, short training. See docs/studies/bench. The
search never reads it. :mod:`.bench_training` trains it.
"""

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..arch import Architecture, as_architecture
from ..errors import InputError, one_line
from ..nas import Budget, space_for
from ..nas.filling import LEAST_USAGE, WIDTH_STEP
from ..utils.files import atomic_write_json, read_object
from .settings import BUDGETS, BenchBudget
from .statistics import CONFIDENCE

SCHEMA = 2
DEPTHS = (4, 4, 8, 4)
RECORD_ADVICE = 'remove it: it is made again'
# In a wheel the table lies beside this file, in a checkout where it is documented.
PLACES = (
    Path(__file__).with_name('bench_table.json'),
    Path(__file__).parents[2] / 'docs/studies/bench/table.json',
)


def draw_networks(budget: BenchBudget, seed: int = 0) -> list[Architecture]:
    """Networks whose topology, stride and depths are random, as wide as a random usage allows."""
    rng = np.random.default_rng([seed, budget.max_params, budget.max_macs])
    limits = limits_of(budget)
    spaces = [space_for(budget.img_size, stride) for stride in budget.strides]
    drawn: dict[Architecture, None] = {}
    while len(drawn) < budget.networks:
        topology = spaces[rng.integers(len(spaces))].sample(rng)
        depths = [int(rng.integers(1, most + 1)) for most in DEPTHS]
        wanted = rng.uniform(LEAST_USAGE, 1)
        widest = None
        for width in range(WIDTH_STEP * -(-topology.heads // 8 // WIDTH_STEP), 1024, WIDTH_STEP):
            arch = topology.with_size(depths, width)
            if limits.usage(arch) > wanted:
                break
            widest = arch
        if widest and limits.usage(widest) >= LEAST_USAGE:
            drawn[widest] = None
    return list(drawn)


def limits_of(budget: BenchBudget) -> Budget:
    """The limits on a network's classifier."""
    return Budget(budget.classes, budget.img_size, budget.max_params, budget.max_macs)


@dataclass(frozen=True)
class BenchRun:
    """A training of a network.

    Attributes:
        seed: of the weights and of the order of the images.
        top1: per cent of the test images that are classified correctly after the last epoch.
        train_loss: mean of the last epoch.
        short_loss: mean of steps k/2 to k by k: what a training of k steps at the recipe's learning rates
            would have shown.
        seconds: together with ``beside`` other networks.
        device: that it ran on, with ``torch``.
    """

    seed: int
    top1: float
    train_loss: float
    short_loss: Mapping[int, float]
    seconds: float
    beside: int
    device: str
    torch: str


@dataclass(frozen=True)
class BenchNetwork:
    """A network of the table.

    Attributes:
        budget: its name.
        index: in the order in which the budget's networks were drawn; those with a record are trained.
        params, macs: parameters, and multiply-adds of one image, of the classifier.
        usage: share of the tighter of the budget's limits.
        runs: trainings, by seed.
    """

    budget: str
    index: int
    arch: Architecture
    params: int
    macs: int
    usage: float
    runs: tuple[BenchRun, ...]

    @property
    def top1(self) -> float:
        """Mean over the trainings, in per cent."""
        return statistics.fmean(run.top1 for run in self.runs)


@dataclass(frozen=True)
class TrainedBudget:
    """A budget, what its networks were trained on, and how.

    Attributes:
        limits: as it was drawn, with the number of networks that were planned.
        data: the images in words.
        train_images: how many there are to train on.
        recipe: of :class:`~asvit_mm.analysis.plain_training.PlainRecipe`.
    """

    limits: BenchBudget
    data: str
    train_images: int
    recipe: Mapping[str, Any]

    @property
    def about(self) -> dict[str, Any]:
        """What a record of a training has in common with those of the table's networks."""
        return {'data': self.data, 'img_size': self.limits.img_size, 'recipe': self.recipe}

    @property
    def steps(self) -> int:
        """Of a training."""
        return int(self.recipe['epochs']) * (self.train_images // int(self.recipe['batch']))


@dataclass(frozen=True)
class Bench:
    """The table."""

    budgets: Mapping[str, TrainedBudget]
    networks: tuple[BenchNetwork, ...]

    def of(self, budget: str) -> list[BenchNetwork]:
        """The trained networks of a budget, in the order in which they were drawn.

        Raises:
            InputError: there are none.
        """
        found = [network for network in self.networks if network.budget == budget]
        if not found:
            known = ', '.join(self.budgets) or 'no budget'
            raise InputError(f'the table has no network of {budget!r}: it has {known}')
        return found

    def noise(self, budget: str) -> float | None:
        """Standard deviation of top-1 between seeds, in points; None if no network has two."""
        twice = [[run.top1 for run in n.runs] for n in self.of(budget) if len(n.runs) > 1]
        return statistics.fmean(map(statistics.variance, twice)) ** 0.5 if twice else None

    def by_stride(self, budget: str) -> dict[str, Any]:
        """Top-1 of the networks of each base stride, and what the finer of two gains; plain data.

        Returns:
            ``strides``: ``networks``, ``mean``, ``std`` and ``best`` of each; ``gain``, ``low`` and ``high``:
            mean of the finest minus that of the coarsest with its interval (Welch's t), None where a stride
            has fewer than two networks.
        """
        groups: dict[int, list[float]] = {}
        for network in self.of(budget):
            groups.setdefault(network.arch.stride, []).append(network.top1)
        rows = {
            str(stride): {
                'networks': len(top1),
                'mean': statistics.fmean(top1),
                'std': statistics.stdev(top1) if len(top1) > 1 else None,
                'best': max(top1),
            }
            for stride, top1 in sorted(groups.items())
        }
        gain: dict[str, float | None] = dict.fromkeys(('gain', 'low', 'high'))
        fine, coarse = groups[min(groups)], groups[max(groups)]
        if len(groups) > 1 and min(len(fine), len(coarse)) > 1:
            found = stats.ttest_ind(fine, coarse, equal_var=False).confidence_interval(CONFIDENCE)
            mean = statistics.fmean(fine) - statistics.fmean(coarse)
            gain = {'gain': mean, 'low': float(found.low), 'high': float(found.high)}
        return {'strides': rows, **gain}


def load_bench(path: str | Path | None = None) -> Bench:
    """Read a table, checked against the costs of its architectures.

    Args:
        path: of a table.json; None: the table that comes with the package.

    Raises:
        InputError: no such file, or not such a table.
    """
    advice = 'give a table.json that tools/analysis_tools/train_bench.py wrote'
    file = Path(path) if path else next((p for p in PLACES if p.exists()), PLACES[-1])
    table = read_object(file, advice)
    if table.get('schema') != SCHEMA:
        raise InputError(f'{file} has schema {table.get("schema")!r}, not {SCHEMA}: {advice}')
    try:
        budgets = {}
        for name, about in table['budgets'].items():
            limits = {f.name: about[f.name] for f in fields(BenchBudget)}
            budgets[name] = TrainedBudget(
                BenchBudget(**{**limits, 'strides': tuple(limits['strides'])}),
                *(about['data'], about['train_images'], about['recipe']),
            )
        networks = tuple(_network(row, budgets[row['budget']].limits) for row in table['networks'])
    except (AttributeError, KeyError, TypeError, ValueError, InputError) as error:
        raise InputError(f'{file} is no table of networks ({one_line(error)}): {advice}') from error
    return Bench(budgets, networks)


def _network(row: Mapping[str, Any], limits: BenchBudget) -> BenchNetwork:
    arch = as_architecture(row['arch'])
    runs = [_run(run) for run in row['runs']]
    if not runs:
        raise ValueError(f'{arch} has no run')
    found = BenchNetwork(**{**row, 'arch': arch, 'runs': tuple(runs)})
    costs = network_costs(arch, limits)
    if (found.params, found.macs, found.usage) != tuple(costs.values()):
        raise ValueError(f'{arch} costs {costs}')
    return found


def _run(row: Mapping[str, Any]) -> BenchRun:
    short = {int(k): float(v) for k, v in row['short_loss'].items()}
    if not 0 <= float(row['top1']) <= 100:
        raise ValueError(f'top-1 is {row["top1"]}')
    return BenchRun(**{**row, 'short_loss': short})


def network_costs(arch: Architecture, budget: BenchBudget) -> dict[str, Any]:
    """``params``, ``macs`` and ``usage`` of a network's classifier, as the table has them."""
    limits = limits_of(budget)
    return {
        'params': limits.params(arch),
        'macs': limits.macs(arch),
        'usage': round(limits.usage(arch), 4),
    }


def read_record(file: Path) -> dict[str, Any]:
    """The record of a training.

    Raises:
        InputError: the file has none.
    """
    record = read_object(file, RECORD_ADVICE)
    try:
        _run({f.name: record[f.name] for f in fields(BenchRun)})
        as_architecture(record['arch'])
        # 'N training and M test images of K classes'
        record['train_images'] = int(record['data'].split()[0])
        known = record['budget'] in BUDGETS and isinstance(record['recipe'], dict)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, InputError) as error:
        raise InputError(
            f'{file} is no record of a training ({one_line(error)}): {RECORD_ADVICE}'
        ) from error
    if not known:
        raise InputError(f'{file} is of no known budget or recipe: {RECORD_ADVICE}')
    return record


def read_records(folder: str | Path) -> list[dict[str, Any]]:
    """The records of the table's networks in a folder, in the table's order; other files do not matter.

    Raises:
        InputError: a file that is named like a record is none.
    """
    records = []
    for budget in BUDGETS:
        of_budget = []
        for file in Path(folder).glob(f'{budget}-*.json'):
            record = read_record(file)
            place = budget, record.get('index'), record['seed']
            if record['budget'] != budget or not all(isinstance(x, int) for x in place[1:]):
                raise InputError(f'{file} is of no network of the table: {RECORD_ADVICE}')
            of_budget.append(record)
        records += sorted(of_budget, key=lambda record: (record['index'], record['seed']))
    return records


def write_table(folder: str | Path) -> Path:
    """Write table.json from the records in ``folder``, however many of them there are.

    Raises:
        InputError: see :func:`read_records`.
    """
    budgets: dict[str, Any] = {}
    networks: dict[tuple[str, int], dict[str, Any]] = {}
    for record in read_records(folder):
        budget = BUDGETS[record['budget']]
        about = {key: record[key] for key in ('data', 'recipe', 'train_images')}
        budgets.setdefault(budget.name, {**asdict(budget), **about})
        entry = networks.setdefault(
            (budget.name, record['index']),
            {
                **{key: record[key] for key in ('budget', 'index', 'arch')},
                **network_costs(as_architecture(record['arch']), budget),
                'runs': [],
            },
        )
        entry['runs'].append({f.name: record[f.name] for f in fields(BenchRun)})
    table = {'schema': SCHEMA, 'budgets': budgets, 'networks': list(networks.values())}
    return atomic_write_json(Path(folder) / 'table.json', table)
