"""A whole seed search: measure, learn, write the config of the seed.

Source: As-ViT (arXiv 2202.11921), section 3.3.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..arch import Architecture
from ..errors import InputError
from ..nas import (
    METHODS,
    Choices,
    Measurement,
    Reinforce,
    SearchMethod,
    Step,
    iterate_search,
    percentile_scores,
    space_for,
)
from ..report.plots import plot_search
from ..report.report import write_search_report
from ..utils.files import relative
from .progress import format_value, show_progress
from .results import SearchResult, network_record, read_search_result
from .run import Run, read_budget, run_on_main_rank
from .settings import SearchSettings


def run_search(settings: SearchSettings, tools: Path = Path('tools')) -> SearchResult:
    """Search a seed, or resume a search, and write trace, result, configs and report into the work dir.

    The trace has a line per step. A search that is complete is not done again.

    Args:
        tools: folder of the tools, for the commands that are printed.

    Raises:
        InputError: a mistake in the settings (nothing has been measured), or no network could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the search is and how to go on. What
            is found by then is in so_far.json, its configs are written.
    """
    run_on_main_rank(_Search, settings, tools)
    return read_search_result(Path(settings.work_dir))


class _Search(Run[SearchSettings]):
    TASK = 'search'

    def __init__(self, settings: SearchSettings, tools: Path) -> None:
        if settings.method not in METHODS:
            raise InputError(
                f'--method {settings.method!r} is not known: choose from {", ".join(METHODS)}'
            )
        super().__init__(settings, tools)
        self.budget = read_budget(settings, settings.max_params)
        self.space = space_for(settings.pixels, settings.base_stride)
        choices = self.budget.choices(self.space)
        self.method: SearchMethod = METHODS[settings.method](choices, seed=settings.seed)
        self.steps: list[Step] = []
        self.policies: list[list[list[float]]] = []

    def smallest(self) -> tuple[list[Architecture], str]:
        return self.budget.smallest_seeds(self.space), 'the smallest seeds'

    def progress(self, records: Sequence[Mapping[str, Any]]) -> str:
        return f'{sum("step" in record for record in records)} of {self.settings.steps} steps'

    def take_steps(self) -> dict[str, Any]:
        self._keep_policy()
        with show_progress('search', self.settings.steps) as show:
            for step in iterate_search(self.method, self.memo, self.settings.steps):
                self.folder.append(step.to_record())
                self.steps.append(step)
                self._keep_policy()
                if not self.folder.replaying:
                    length, kappa = map(format_value, step.measurement.values)
                    text = f'best so far {step.best}  (measured L^E {length}  kappa {kappa})'
                    show(step.number + 1, text)
        best, count = self._best(), self.memo.measured
        measured = {step.arch: step.measurement for step in self.steps}
        ((measured[best], _),) = self.memo([best])
        found, race = self.run_race(best, _ranked(measured), measured)
        because = 'a seed has one block per stage; scaling uses the rest'
        if race is not None:
            because = f'it won the race; {because}'
        network, (front, points) = self.network(found, measured[found]), self.front(measured, race)
        result = {
            **network,
            'best_by_measures': str(best),
            'steps': self.settings.steps,
            'measured_architectures': count,
            'budget': self.explain_budget(network, self._larger(found), because),
            'front': front,
            'race': race,
        }
        work_dir = relative(self.folder.path)
        records = [record for record in self.folder.records if 'step' in record]
        plot_search(records, self.folder.path / 'search.png')
        whole = {**result, **self.folder.run}
        write_search_report(work_dir, whole, records, self.data, self.space, self.policies, points)
        return result

    def partial_result(self) -> dict[str, Any] | None:
        try:
            found = self._best()
        except InputError:
            return None
        if self.race is not None and self.race.leader is not None:
            found = self.race.leader
        network = network_record(found, self.configs)
        return {'arch': str(found), **network, 'steps': len(self.steps)}

    def print_result(self) -> None:
        result = read_search_result(self.folder.path)
        rows = {
            'length distortion': f'{format_value(result.length_distortion)} (higher is better)',
            'NTK condition number': f'{format_value(result.ntk_condition_number)} (lower is better)',
            'time': f'{self.folder.seconds:.1f} s for {self.settings.steps} steps'
            + (' and the race' if result.race else ''),
            'configs': f'{relative(result.config)}, {relative(result.detection_config)}',
        }
        self.print_rows(result, rows)

    def _keep_policy(self) -> None:
        if isinstance(self.method, Reinforce):
            self.policies.append(self.method.probabilities)

    def _larger(self, arch: Architecture) -> list[Architecture]:
        """The seeds that differ from one in one choice and cost more."""
        space, budget = self.space, self.budget
        indices = space.encode(arch)
        values = Choices(space)
        variants = [other for k in range(len(indices)) for other in values.variants(indices, k)]
        own = budget.params(arch), budget.macs(arch)
        costs = [(budget.params(other), budget.macs(other)) for other in variants]
        return [
            other
            for other, cost in zip(variants, costs, strict=True)
            if cost != own and cost[0] >= own[0] and cost[1] >= own[1]
        ]

    def _best(self) -> Architecture:
        """The best so far: what the search finds without a race if it ends now.

        Raises:
            InputError: no network could be measured, or all are too slow.
        """
        if not self.steps:
            raise InputError('no network has been measured yet')
        found = self.steps[-1].best
        if found is None:
            assert self.latency is not None
            archs = dict.fromkeys(step.arch for step in self.steps)
            self.latency.within_limit(archs, f'all {len(archs)} networks of this search')
            raise InputError('no network is within --max-latency: give more')
        measurements = [step.measurement for step in self.steps]
        if all(measurement.values[1] is None for measurement in measurements):
            problem = next(m.problem for m in measurements if m.refused is None)
            raise InputError(
                f'no network of the {len(self.steps)} steps could be measured ({problem}): '
                'try a larger --batch-size or --img-size'
            )
        return found


def _ranked(measured: Mapping[Architecture, Measurement]) -> list[Architecture]:
    """The networks with both measures, the best by them first."""
    scores = percentile_scores([measurement.values for measurement in measured.values()])
    whole = [(s, arch) for s, arch in zip(scores, measured, strict=True) if s is not None]
    return [arch for _, arch in sorted(whole, key=lambda pair: -pair[0])]
