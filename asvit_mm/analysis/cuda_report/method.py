"""Part "method": what the measures, the published search and scaling, and the token strides take."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import torch

from ...arch import PRESETS, as_architecture
from ...cost import count_macs
from ...errors import InputError
from ...measures import SEARCH_MEASURES, ProbeNetwork, Score, measure_network
from ...nas import (
    AutoScaling,
    Budget,
    ComplexityMeasure,
    Measurement,
    Memo,
    Reinforce,
    Request,
    iterate_search,
    measure_proxies,
)
from ...token_schedule import STRIDES
from ..benchmark import COMPILED, Contestant, Setting
from ..benchmark_tokenization import savings
from .rows import Context, Figures, Job, random_images, seconds_per_call

STEPS, NETWORKS, BATCH = 500, 5, 16
MIN_PARAMS, MAX_PARAMS = 80_000_000, 110_000_000


def jobs(context: Context) -> Iterator[Job]:
    """The strides first: they are quick. Then the measures, and the runs with what time is left."""
    for compiled in (False,) if context.quick else (False, True):
        how = 'compiled' if compiled else 'eager'
        name = f'{"seed" if context.quick else "base"}, training step, {how}'
        table = 'progressive tokenization: time against multiply-adds'
        yield Job(table, name, partial(_strides, context, compiled), limit=60)
    for preset in ('seed',) if context.quick else ('seed', 'small', 'base', 'large'):
        yield Job('seconds per network, L^E and kappa', preset, partial(_measures, context, preset))
    published = 'the published run, extrapolated from the measured part'
    yield Job(published, f'search of {STEPS} steps', partial(_search, context))
    yield Job(
        published, f'scaling to {MAX_PARAMS // 10**6} M parameters', partial(_scaling, context)
    )


def _strides(context: Context, compiled: bool) -> Figures:
    """Seconds of a training step at each token stride, and what a published schedule saves of them."""
    name, size, batch = ('seed', 64, 2) if context.quick else ('base', 224, 128)
    steps = {}
    for stride in STRIDES:
        options = {'img_size': size, 'token_stride': stride}
        setting = Setting('training', context.device, 'bfloat16', batch, (size, size), options)
        timed = Contestant(name + COMPILED * compiled, setting, 2, {'dynamic': False})
        budget = 0.2 if context.quick else 2.0
        seconds = seconds_per_call(timed.call, context.device, budget)
        steps[stride] = {'seconds': seconds, 'macs': float(timed.macs)}
    figures: Figures = {'batch': batch}
    full = steps[STRIDES[-1]]
    for stride, step in steps.items():
        figures[f'ms_at_{stride}'] = 1e3 * step['seconds']
        for what, key in (('time', 'seconds'), ('macs', 'macs')):
            figures[f'{what}_percent_at_{stride}'] = 100 * step[key] / full[key]
    seen = {name: found['seen'] for name, found in savings(steps).items()}
    return figures | {f'seen_percent_{name}': share for name, share in seen.items()}


def _size(context: Context) -> int:
    return 64 if context.quick else 224


def _measures(context: Context, preset: str) -> Figures:
    """Seconds of each measure for one network; the first network warms up."""
    arch, size = as_architecture(preset), _size(context)
    taken = []
    for index in range(2 if context.quick else 4):
        images = random_images(BATCH, size, seed=index)
        begin = time.time()
        probe = ProbeNetwork(arch, size, (0,), index, images, context.device)
        scores = measure_network(probe)
        taken.append((*(scores[name].seconds for name in SEARCH_MEASURES), time.time() - begin))
    length, kappa, whole = (
        sorted(column)[len(column) // 2] for column in zip(*taken[1:], strict=True)
    )
    return {'length_distortion_s': length, 'ntk_condition_number_s': kappa, 'with_set_up_s': whole}


def _images(context: Context) -> torch.Tensor:
    count = 1 if context.quick else NETWORKS
    images = random_images(count * BATCH, _size(context))
    return images.unflatten(0, (count, BATCH))


def _search(context: Context) -> Figures:
    """Steps of the paper's search for a part of the time that is left; those that recall count as quick."""
    measure = Memo(ComplexityMeasure(_images(context), _size(context), device=context.device))
    allowed = 1.0 if context.quick else 0.45 * context.left()
    begin = time.time()
    steps = 0
    for _ in iterate_search(Reinforce(), measure, STEPS):
        steps += 1
        if steps == 1:
            begin = time.time()  # the first step warms up
        elif time.time() - begin > allowed:
            break
    seconds = time.time() - begin
    each = seconds / max(1, steps - 1)
    return {
        'networks_per_architecture': 1 if context.quick else NETWORKS,
        'measured_part': f'{steps - 1} of {STEPS} steps',
        'measured_s': seconds,
        'steps_per_s': 1 / each,
        'whole_run_s': STEPS * each,
    }


class _PartlyMeasured:
    """Measures until a deadline, then gives fixed values, and keeps what each architecture cost.

    Attributes:
        costs: multiply-adds of each architecture and its seconds, None where it was not measured.
    """

    def __init__(self, measure: ComplexityMeasure, deadline: float) -> None:
        self.measure, self.deadline = measure, deadline
        self.costs: list[tuple[int, float | None]] = []

    def __call__(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        for request in requests:
            macs = count_macs(request[0], self.measure.img_size)
            begin = time.time()
            if begin >= self.deadline:
                self.costs.append((macs, None))
                yield Measurement(Score(1.0), Score(1.0))
                continue
            (measurement,) = self.measure([request])
            self.costs.append((macs, time.time() - begin))
            yield measurement


def _scaling(context: Context) -> Figures:
    """The paper's scaling of its seed, measured for as long as there is time.

    What is not measured is counted on the path that equal scores take, by the seconds per multiply-add of the
    last quarter of what was measured.
    """
    size = _size(context)
    measure = ComplexityMeasure(_images(context), size, device=context.device)
    allowed = 2.0 if context.quick else max(5.0, 0.85 * context.left())
    partly = _PartlyMeasured(measure, time.time() + allowed)
    scaling = AutoScaling(
        as_architecture(PRESETS['seed']),
        Budget(1000, size, max_params=MAX_PARAMS),
        min_params=MIN_PARAMS,
    )
    memo = Memo(partial(measure_proxies, partly))
    # Equal scores widen nothing while the width is small: where a rehearsal has no time, depth ends it.
    with suppress(InputError):
        while scaling.step(memo) is not None and not scaling.stopped:
            pass
    measured = [(macs, seconds) for macs, seconds in partly.costs if seconds is not None]
    last = measured[-max(1, len(measured) // 4) :]
    rate = sum(seconds for _, seconds in last) / sum(macs for macs, _ in last)
    spent = sum(seconds for _, seconds in measured)
    rest = sum(macs for macs, seconds in partly.costs if seconds is None)
    return {
        'networks_per_architecture': 1 if context.quick else NETWORKS,
        'measured_part': f'{len(measured)} of {len(partly.costs)} candidates',
        'measured_s': spent,
        'whole_run_s': spent + rate * rest,
    }
