"""A whole scaling run: a seed becomes a series of networks, each with a config.

Source: As-ViT (arXiv 2202.11921), section 3.4.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np

from ..arch import Architecture, as_architecture
from ..errors import InputError
from ..nas import (
    AutoScaling,
    Candidate,
    Member,
    draw_filling,
    larger_networks,
    measure_proxies,
    space_for,
    with_finer_tokens,
)
from ..report.plots import plot_scaling
from ..report.report import write_scale_report
from ..utils.files import relative
from ..utils.units import format_count, parse_count
from .progress import format_value, show_progress
from .results import Network, ScaleResult, network_record, read_found, read_scale_result
from .run import Run, read_budget, run_on_main_rank
from .settings import MAX_PARAMS, MIN_PARAMS, ScaleSettings, as_count

# Networks that use up the limits, drawn for each finalist: some may be too much alike, or too slow.
DRAWN = 3


def run_scaling(settings: ScaleSettings, tools: Path = Path('tools')) -> ScaleResult:
    """Scale a seed, or resume that, and write trace, result, configs and report into the work dir.

    The trace has a line per candidate (with ``candidate``, its number in the step) and after those of a step
    a line with the member that it adds to the series. With targets the lines of each scaling, from the
    smallest on, have ``target``; the series of the result is that of the largest. A run that is complete is
    not done again.

    Args:
        tools: folder of the tools, for the commands that are printed.

    Raises:
        InputError: a mistake in the settings (nothing has been measured), or no candidate of the first step
            could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the run is and how to go on. The series
            by then is in so_far.json, its configs are written.
    """
    run_on_main_rank(_Scale, settings, tools)
    return read_scale_result(Path(settings.work_dir))


def read_topology(spec: str | Architecture) -> Architecture:
    """The seed to scale from an architecture, its string, a preset or the result.json of a search.

    Raises:
        InputError: a malformed architecture, or a file that is not a result.
    """
    spec = str(spec)
    if spec.endswith('.json'):
        spec = read_found(Path(spec))['arch']
    return as_architecture(spec).seed


def read_front(spec: str | Architecture) -> list[Architecture]:
    """The topologies on the front of a search, from its result.json; none where ``spec`` is another one."""
    spec = str(spec)
    if not spec.endswith('.json'):
        return []
    front = read_found(Path(spec)).get('front')
    found = [one.get('arch') for one in front or () if isinstance(one, Mapping)]
    return [as_architecture(arch).seed for arch in found if isinstance(arch, str)]


def inherit(settings: ScaleSettings) -> ScaleSettings:
    """The settings with data, image size and limits of the search whose result is scaled, unless given.

    Raises:
        InputError: the file is not a result.
    """
    spec = str(settings.arch)
    if not spec.endswith('.json'):
        return settings
    theirs = read_found(Path(spec)).get('settings')
    theirs = theirs if isinstance(theirs, Mapping) else {}
    limited = settings.targets or settings.min_params is not None
    names = ['data', 'max_flops', 'max_latency', *(() if limited else ('max_params',))]
    if settings.data is None:
        names.append('img_size')
    new: dict[str, Any] = {n: theirs.get(n) for n in names if getattr(settings, n) is None}
    new = {name: value for name, value in new.items() if value is not None}
    if 'max_latency' in new and settings.latency_runtime == 'torch' and 'latency_runtime' in theirs:
        new['latency_runtime'] = theirs['latency_runtime']
    if new:
        words = ', '.join(f'{name} {value}' for name, value in new.items())
        print(f'from {spec}: {words}')
    found = replace(settings, **new)
    before = theirs.get('data'), theirs.get('img_size')
    if None not in before and before != (found.source.spec, found.pixels):
        print(
            f'note: the search measured on {before[0]} at {before[1]} pixels and this run on '
            f'{found.source.spec} at {found.pixels}: its scores are not used, all are measured anew'
        )
    return found


@dataclass
class _Scaling:
    """One scaling of a run.

    Attributes:
        target: parameters that it grows to, at most; None in a run without targets.
        series: records of its members so far, for the result.
    """

    auto: AutoScaling
    target: int | None
    series: list[dict[str, Any]] = field(default_factory=list)

    @property
    def aim(self) -> int:
        """Parameters at which it ends, at most, as the progress bar counts."""
        return self.auto.min_params or self.auto.budget.max_params or 0

    def mark(self, record: dict[str, Any]) -> dict[str, Any]:
        """``record``, for the trace or the result, with the target if there is one."""
        return record if self.target is None else {'target': self.target, **record}


class _Scale(Run[ScaleSettings]):
    TASK = 'scale'

    def __init__(self, settings: ScaleSettings, tools: Path) -> None:
        topology, settings = read_topology(settings.arch), inherit(settings)
        super().__init__(settings, tools)
        self.measure = partial(measure_proxies, self.measure)
        targets: list[int | None] = [*sorted({parse_count(str(t)) for t in settings.targets})]
        maximum = MAX_PARAMS if settings.max_params is None else settings.max_params
        limits = (settings.max_params, settings.max_flops, settings.max_latency)
        minimum = as_count(settings.min_params)
        if limits == (None, None, None) and minimum is None:
            minimum = as_count(MIN_PARAMS)
        # In ascending order; they share what they measure.
        self.scalings = [
            _Scaling(
                AutoScaling(
                    topology,
                    read_budget(settings, maximum if target is None else target),
                    min_params=minimum if target is None else None,
                ),
                target,
            )
            for target in targets or [None]
        ]
        self.largest = self.scalings[-1].auto
        self.budget = self.largest.budget
        # What the finalists are drawn from: nothing where there is no limit to fill.
        self.front_topologies: list[Architecture] = []
        limited = settings.max_params or settings.max_flops or settings.targets
        self.fills = bool(settings.finalists and limited and settings.min_params is None)
        if self.fills:
            self.front_topologies = read_front(settings.arch)

    def fingerprint(self) -> dict[str, Any]:
        targets = [scaling.target for scaling in self.scalings if scaling.target is not None]
        return {
            **super().fingerprint(),
            'arch': str(self.largest.topology),
            'min_params': self.largest.min_params,
            'max_params': None if targets else self.largest.budget.max_params,
            'targets': targets or None,
            **({'front': [*map(str, self.front_topologies)]} if self.fills else {}),
        }

    def smallest(self) -> tuple[list[Architecture], str]:
        auto = self.scalings[0].auto
        return sorted(auto.affordable(), key=auto.budget.macs)[:4], 'the smallest candidates'

    def progress(self, records: Sequence[Mapping[str, Any]]) -> str:
        candidates = sum('candidate' in record for record in records)
        steps = sum('candidates' in record for record in records)
        return f'{steps} steps and {candidates} candidates'

    def take_steps(self) -> dict[str, Any]:
        total, before = sum(s.aim for s in self.scalings), 0
        with show_progress('scaling', total, counts=False) as show:
            for scaling in self.scalings:
                self._grow(scaling, show, before)
                before += scaling.aim
        plot_scaling(
            [member.to_record(candidates=True) for member in self.largest.series],
            self.folder.path / 'scaling.png',
            self.largest.min_params,
            self.largest.budget.max_params,
        )
        measured = {
            candidate.arch: candidate.measurement
            for scaling in self.scalings
            for member in scaling.auto.series
            for candidate in member.candidates
        }
        best = self.largest.current
        ranked = chain(self._filling(best), self._ranked())
        found, race = self.run_race(best, ranked, measured)
        network = self.network(found, measured[found])
        because = str(self.largest.stopped) if race is None else 'it won the race'
        larger, (front, points) = larger_networks(found), self.front(measured, race)
        result = {
            **self._result(self.scalings),
            **network,
            'budget': self.explain_budget(network, larger, because),
            'front': front,
            'race': race,
        }
        work_dir = relative(self.folder.path)
        records = [record for record in self.folder.records if 'step' in record]
        whole = {**result, **self.folder.run}
        write_scale_report(work_dir, whole, records, self.data, points)
        return result

    def partial_result(self) -> dict[str, Any] | None:
        grown = [scaling for scaling in self.scalings if scaling.series]
        if not grown:
            return None
        result = self._result(grown)
        if self.race is not None and self.race.leader is not None:
            leader = self.race.leader
            result |= {'arch': str(leader), **network_record(leader, self.configs)}
        return result

    def print_result(self) -> None:
        result = read_scale_result(self.folder.path)
        _print_series(result.series)
        for target, best in result.targets.items():
            print(
                f'at most {target:,}: {best.architecture} with {best.params:,} parameters, '
                f'{relative(best.config)}'
            )
        configs = self.folder.configs
        rows = {
            'stopped': result.stopped,
            'time': f'{self.folder.seconds:.1f} s for a series of {len(result.series)}'
            + (' and the race' if result.race else ''),
            'configs': f'{len(list(configs.glob("asvit-*")))} and as many for mmdet in '
            f'{relative(configs)}; this network is trained with',
        }
        self.print_rows(result, rows)

    def _grow(self, scaling: _Scaling, show: Callable[[float, str], None], before: int) -> None:
        """Take all steps of one scaling.

        Args:
            show: the progress bar.
            before: what the bar showed at the end of the scaling before.
        """
        auto, folder = scaling.auto, self.folder

        def shown(text: str) -> None:
            if not folder.replaying:
                best, params = auto.current, auto.budget.params(auto.current)
                done = before + params if auto.series else before
                found = f'best so far {best}  {format_count(params)}  ' if auto.series else ''
                show(done, f'{found}{text}')

        def report(number: int, candidate: Candidate) -> None:
            record = {'step': len(auto.series) + 1, 'candidate': number, **candidate.to_record()}
            folder.append(scaling.mark(record))
            shown(f'(measured {candidate.arch})')

        while (member := auto.step(self.memo, report)) is not None:
            self._append(scaling, member)
            length, kappa = map(format_value, member.chosen.measurement.values)
            shown(f'L^E {length}  kappa {kappa}')
        if not auto.series:
            if self.latency is not None:
                self.latency.within_limit(auto.affordable(), 'all candidates of the first step')
            raise InputError(f'{auto.stopped}: try a larger --batch-size or --img-size')

    def _ranked(self) -> list[Architecture]:
        """The measured candidates of the largest scaling, from the last step back, each step's best first."""
        ranked = []
        for member in reversed(self.largest.series):
            whole = [c for c in member.candidates if c.ranks is not None]
            whole.sort(key=lambda c: sum(c.ranks or ()))
            ranked += [candidate.arch for candidate in whole]
        return ranked

    def _filling(self, best: Architecture) -> Iterator[Architecture]:
        """Networks of other topologies, tokens and depths than the best, which use up the limits.

        There are none without a limit on parameters or multiply-adds, as there is nothing to fill, and none
        with a minimum, at which scaling stops instead.
        """
        if not self.fills:
            return iter(())
        topology = self.largest.topology
        rng, count = np.random.default_rng(self.settings.seed), self.settings.finalists or 0
        space = space_for(self.data.img_size, topology.stride)
        # The front may be of larger images, with splits that these have no tokens for.
        front = [arch for arch in self.front_topologies if arch in space]
        found = dict.fromkeys([topology, *front])
        # As measures promise little at an equal size, every other topology is any of the space.
        pairs = zip(cycle(found), [space.sample(rng) for _ in range(count)], strict=False)
        topologies = [arch for pair in pairs for arch in pair]
        return draw_filling(
            with_finer_tokens(list(dict.fromkeys(topologies)), self.data.img_size),
            max(2, round(2 * sum(best.depths) / len(best.depths))),
            self.budget,
            DRAWN * count,
            rng,
        )

    def _append(self, scaling: _Scaling, member: Member) -> None:
        network = network_record(member.chosen.arch, self.configs)
        self.folder.append(scaling.mark({**member.to_record(candidates=True), **network}))
        scaling.series.append({**member.to_record(), **network})

    def _result(self, scalings: Sequence[_Scaling]) -> dict[str, Any]:
        """The result of ``scalings``, in ascending order; the last one gives the series."""
        last = scalings[-1]
        auto = last.auto
        result = {
            'arch': last.series[-1]['arch'],
            'topology': str(auto.topology),
            'series': last.series,
        }
        if last.target is not None:
            result['targets'] = [scaling.mark(scaling.series[-1]) for scaling in scalings]
        return {
            **result,
            'reached': auto.reached,
            'stopped': auto.stopped,
            'measured_architectures': self.memo.measured,
            'min_params': auto.min_params,
            'max_params': auto.budget.max_params,
        }


def _print_series(series: Sequence[Network]) -> None:
    widest = max(len(str(member.architecture)) for member in series)
    print(f'{"step":>4}  {"architecture":<{widest}}  {"params":>8}  {"L^E":>9}  {"kappa":>9}')
    for step, member in enumerate(series, 1):
        length, kappa = (
            format_value(member.length_distortion),
            format_value(member.ntk_condition_number),
        )
        arch, params = str(member.architecture), format_count(member.params)
        print(f'{step:>4}  {arch:<{widest}}  {params:>8}  {length:>9}  {kappa:>9}')
