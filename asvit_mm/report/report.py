"""A run's report: one HTML page that needs nothing else, and its pictures as PNG files.

Links lead to the run's other files by names relative to it. It depends on the run's result only, not on
when or how fast it was obtained.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..arch import PRESETS, SEARCH_SPACE, Architecture
from ..cost import count_macs, count_params
from ..data.source import DataSource
from ..utils.units import format_count
from . import page
from .report_plots import (
    PUBLISHED,
    plot_architecture,
    plot_candidates,
    plot_family,
    plot_measured,
    plot_policy,
)
from .sections import (
    Record,
    architecture_section,
    cost_section,
    left_out_sentence,
    limits_sentence,
    measures_explained,
    run_section,
    scale_command,
    tiles,
    training_section,
)

Policies = Sequence[Sequence[Sequence[float]]]

METHOD_NAMES = {
    'reinforce': 'REINFORCE, the method of the paper: choices that gave better networks than the one '
    'before become more likely; the result is the most likely value of every choice',
    'evolution': 'regularised evolution: a changed copy of a good network replaces the oldest one; the '
    'result is the measured network with the best ranks in both numbers',
    'random': 'random search: networks are drawn uniformly; the result is the one with the best ranks '
    'in both numbers',
}


def write_search_report(
    work_dir: str,
    result: Record,
    trace: Sequence[Record],
    data: DataSource,
    policies: Policies = (),
) -> Path:
    """Write report.html of a search and the pictures that are not there yet.

    Args:
        work_dir: the run's folder, as commands shall name it; search.png is in it.
        result: the whole content of result.json.
        trace: records of :func:`asvit_mm.nas.iterate_search`.
        data: what the config trains on.
        policies: see :func:`~.report_plots.plot_policy`; none where the method has no policy.

    Returns:
        the page.
    """
    folder, arch = Path(work_dir), Architecture.parse(result['arch'])
    plot_measured(trace, result, folder / 'measured.png')
    plot_architecture(arch, result['train_img_size'], folder / 'architecture.png')
    if policies:
        plot_policy(policies, folder / 'policy.png')
    different = len({record['arch'] for record in trace})
    timed = len({record['arch'] for record in trace if 'refused' in record})
    summary = (
        f'<p>A vision transformer was designed without training any. {page.number(len(trace), "candidate")} '
        f'({page.number(different, "different one")} of {SEARCH_SPACE.size:,} possible) were built with '
        'random weights, each with one block a stage, and judged by two numbers that need no training'
        f'{f" ({timed:,} were too slow and only timed)" if timed else ""}. '
        f'The search proceeded by {METHOD_NAMES[result["settings"]["method"]]}. '
        f'{limits_sentence(result["settings"])}</p>'
        f'<p>It found <code>{escape(str(arch))}</code>. {_standing(result, trace)}</p>'
    )
    sections = {
        'summary': ('In short', summary + tiles(result) + measures_explained(result['settings'])),
        'architecture': (
            'The architecture that was found',
            architecture_section(folder, arch, result),
        ),
        'search': ('The course of the search', _course(folder, trace, policies)),
        'measured': (
            'All networks that were measured',
            page.picture(
                folder,
                'measured.png',
                'Each dot is a network, darker ones came later; the star is the found one'
                + (
                    ', the diamond the topology that the authors published.'
                    if str(PRESETS['seed']) in {record['arch'] for record in trace}
                    else '.'
                )
                + left_out_sentence(trace),
            ),
        ),
        'cost': ('What the network costs', cost_section(arch, result)),
        'train': (
            'Train it, or make it larger',
            training_section(work_dir, result, data)
            + '<p>A seed is small. Grow it, again without training:</p>'
            + page.command(scale_command(work_dir, result['settings'])),
        ),
        'run': ('This run', run_section(work_dir, result, ('search.png', *_pictures(policies)))),
    }
    return page.write_page(folder, f'As-ViT search: {arch}', sections)


def write_scale_report(
    work_dir: str, result: Record, trace: Sequence[Record], data: DataSource
) -> Path:
    """Write report.html of a scaling run and the pictures that are not there yet.

    Args:
        work_dir: the run's folder, as commands shall name it; scaling.png is in it.
        result: the whole content of result.json.
        trace: the run's records; those with ``candidate`` are the measured proxies.
        data: what the configs train on.

    Returns:
        the page.
    """
    folder, series = Path(work_dir), result['series']
    last, targets = series[-1], result.get('targets') or []
    arch = Architecture.parse(last['arch'])
    candidates = [record for record in trace if 'candidate' in record]
    plot_candidates(candidates, series, folder / 'measured.png')
    plot_architecture(arch, last['train_img_size'], folder / 'architecture.png')
    plot_family(
        series,
        folder / 'family.png',
        num_classes=last['num_classes'],
        img_size=last['train_img_size'],
        targets=targets,
    )
    summary = (
        f'<p>The topology <code>{escape(result["topology"])}</code> was grown without training, from '
        'one block a stage on. In every step each way of adding one block and some width was tried on '
        'a narrow copy with random weights, and the one with the best ranks in two numbers was kept. '
        f'{page.number(result["measured_architectures"], "candidate")} were measured; every step gives '
        f'one network of a family, which has {len(series)}. It ended thus: {escape(result["stopped"])}. '
        f'{limits_sentence(result["settings"])}</p>'
        f'<p>The largest is <code>{escape(str(arch))}</code> with {format_count(last["params"])} '
        'parameters.</p>'
    )
    sections = {
        'summary': ('In short', summary + tiles(last) + measures_explained(result['settings'])),
        **({'targets': ('Networks for the targets', _targets(targets))} if targets else {}),
        'architecture': (
            'The largest architecture',
            architecture_section(folder, arch, last),
        ),
        'path': (
            'How the network grew',
            page.picture(
                folder,
                'family.png',
                'Width and blocks against parameters, beside the published family (S, B and L: '
                'As-ViT-Small, -Base and -Large), counted with the same head and image size.',
            )
            + page.picture(
                folder,
                'scaling.png',
                'Size and the two numbers along the steps; grey dots are candidates passed over. The '
                'numbers are those of the narrow copies, a quarter as wide.',
            ),
        ),
        'measured': (
            'All candidates that were measured',
            page.picture(
                folder,
                'measured.png',
                'Each grey dot is a candidate; the blue ones were kept and are joined in their order. '
                'Later ones are larger, which moves both numbers.' + left_out_sentence(candidates),
            ),
        ),
        'family': ('The family', _family(series, last)),
        'cost': ('What the largest network costs', cost_section(arch, last)),
        'train': ('Train it', training_section(work_dir, last, data)),
        'run': (
            'This run',
            run_section(
                work_dir, result, ('scaling.png', 'family.png', 'measured.png', 'architecture.png')
            ),
        ),
    }
    return page.write_page(folder, f'As-ViT scaling: {result["topology"]}', sections)


def _standing(result: Record, trace: Sequence[Record]) -> str:
    """A sentence on how the found network compares with the others that were measured."""
    values = 'length_distortion', 'ntk_condition_number'
    others = {
        r['arch']: r
        for r in trace
        if r['arch'] != result['arch'] and None not in [r[name] for name in values]
    }
    own = result['length_distortion'], result['ntk_condition_number']
    if not others or None in own:
        return ''
    shorter = sum(r['length_distortion'] < own[0] for r in others.values())
    harder = sum(r['ntk_condition_number'] > own[1] for r in others.values())
    return (
        f'Of the {page.number(len(others), "other network")} measured here, {shorter:,} have a lower '
        f'L<sup>E</sup> and {harder:,} a higher κ.'
    )


def _course(folder: Path, trace: Sequence[Record], policies: Policies) -> str:
    caption = (
        'Each dot is the network of a step. Green: the best value so far of either number by itself, '
        'which need not be of the same network.'
    )
    if not policies:
        return page.picture(folder, 'search.png', caption)
    return (
        page.picture(
            folder,
            'search.png',
            caption
            + ' Below: the reward that a network brought, and the entropy of the policy, which falls '
            'as the search makes up its mind.',
        )
        + '<h3>What the search came to prefer</h3>'
        + page.picture(
            folder,
            'policy.png',
            'The height of a band is the probability of that value at that step, all bands together '
            'are 100 %; a darker band is a larger value. Bands are labelled on the left, where the '
            'search knows nothing and takes all values for about equally good. Limits are left aside.',
        )
    )


def _pictures(policies: Policies) -> tuple[str, ...]:
    return (*(('policy.png',) if policies else ()), 'measured.png', 'architecture.png')


def _family(series: Sequence[Record], last: Record) -> str:
    """The series, and the published family counted likewise."""
    size, classes = last['train_img_size'], last['num_classes']
    rows = [
        (
            page.link(f'step {member["step"]}', member['config']),
            page.code(member['arch']),
            format_count(member['params']),
            format_count(member['macs']),
            page.value(member['length_distortion']),
            page.value(member['ntk_condition_number']),
        )
        for member in series
    ]
    for name in PUBLISHED:
        arch = PRESETS[name]
        params = count_params(arch, classes, img_size=size)
        macs = count_macs(arch, size, classes)
        rows.append(
            (
                f'As-ViT-{name.capitalize()} (published)',
                page.code(str(arch)),
                format_count(params),
                format_count(macs),
                '',
                '',
            )
        )
    header = ('network', 'architecture', 'parameters', 'multiply-adds', 'L<sup>E</sup>', 'κ')
    return (
        f'<p>Parameters and multiply-adds are of classifiers with {classes} classes for images of {size} '
        f'&times; {size} pixels, the published ones included. L<sup>E</sup> and κ are those of the narrow '
        'copies; the links lead to the configs.</p>'
        + page.table(header, rows, numbers=range(2, 6), marked={len(series) - 1})
    )


def _targets(targets: Sequence[Record]) -> str:
    rows = []
    for target in targets:
        arch = page.code(target['arch'])
        rows.append(
            (
                format_count(target['target']),
                page.link('config', target['config']) if 'config' in target else '',
                arch,
                format_count(target['params']),
                format_count(target['macs']),
            )
        )
    header = ('at most', '', 'architecture', 'parameters', 'multiply-adds')
    return (
        '<p>For each number of parameters that was asked for, the network at or under it where growing '
        'ended. Each is a growth of its own; the rest of this page shows the one for the largest '
        'target.</p>' + page.table(header, rows, numbers=(0, 3, 4))
    )
