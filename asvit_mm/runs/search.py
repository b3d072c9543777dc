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
    Reinforce,
    SearchMethod,
    Step,
    iterate_search,
    result_of,
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
        return f'{len(records)} of {self.settings.steps} steps'

    def take_steps(self) -> dict[str, Any]:
        self._keep_policy()
        with show_progress('search', self.settings.steps) as show:
            for step in iterate_search(self.method, self.memo, self.settings.steps):
                self.folder.append(step.to_record())
                self.steps.append(step)
                self._keep_policy()
                if not self.folder.replaying:
                    length, kappa = map(format_value, step.measurement.values)
                    text = f'{step.best}  L^E {length}  kappa {kappa}'
                    show(step.number + 1, text)
        found, measured = self._found(), self.memo.measured
        ((measurement, _),) = self.memo([found])
        plot_search(self.folder.records, self.folder.path / 'search.png')
        result = {
            'arch': str(found),
            **measurement.to_record(),
            **network_record(found, self.configs),
            'steps': self.settings.steps,
            'measured_architectures': measured,
        }
        work_dir, records = relative(self.folder.path), self.folder.records
        whole = {**result, **self.folder.run}
        write_search_report(work_dir, whole, records, self.data, self.space, self.policies)
        return result

    def partial_result(self) -> dict[str, Any] | None:
        try:
            found = self._found()
        except InputError:
            return None
        network = network_record(found, self.configs)
        return {'arch': str(found), **network, 'steps': len(self.folder.records)}

    def print_result(self) -> None:
        result = read_search_result(self.folder.path)
        rows = {
            'length distortion': f'{format_value(result.length_distortion)} (higher is better)',
            'NTK condition number': f'{format_value(result.ntk_condition_number)} (lower is better)',
            'time': f'{self.folder.seconds:.1f} s for {self.settings.steps} steps',
            'configs': f'{relative(result.config)}, {relative(result.detection_config)}',
        }
        self.print_rows(result, rows)

    def _keep_policy(self) -> None:
        if isinstance(self.method, Reinforce):
            self.policies.append(self.method.probabilities)

    def _found(self) -> Architecture:
        """What the search has found by now.

        Raises:
            InputError: no network could be measured, or all are too slow.
        """
        if not self.steps:
            raise InputError('no network has been measured yet')
        found = result_of(
            self.method, dict.fromkeys(step.arch for step in self.steps), self.latency
        )
        measurements = [step.measurement for step in self.steps]
        if all(measurement.values[1] is None for measurement in measurements):
            problem = next(m.problem for m in measurements if m.refused is None)
            raise InputError(
                f'no network of the {len(self.steps)} steps could be measured ({problem}): '
                'try a larger --batch-size or --img-size'
            )
        return found
