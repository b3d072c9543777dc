"""A run's report: one HTML page that needs nothing else, and its pictures as PNG files.

The page has neither scripts nor anything that is loaded: its pictures are in it, its style too. Links
lead to the run's other files by names relative to it. It depends on the run's result only, not on
when or how fast it was obtained.
"""

import base64
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..arch import NUM_STAGES, PRESETS, SEARCH_SPACE, Architecture
from ..cost import count_macs, count_params, stage_macs, token_grids
from ..files import atomic_write_text
from ..tokens import window_count, window_length
from ..units import format_count
from .configs import train_command
from .datasets import DataSource
from .report_plots import (
    PUBLISHED,
    plot_architecture,
    plot_candidates,
    plot_family,
    plot_measured,
    plot_policy,
)

Record = Mapping[str, Any]
Policies = Sequence[Sequence[Sequence[float]]]

METHOD_NAMES = {
    'reinforce': 'REINFORCE, the method of the paper: choices that gave better networks than the one '
    'before become more likely; the result is the most likely value of every choice',
    'evolution': 'regularised evolution: a changed copy of a good network replaces the oldest one; the '
    'result is the measured network with the best ranks in both numbers',
    'random': 'random search: networks are drawn uniformly; the result is the one with the best ranks '
    'in both numbers',
}
STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; color: #25303b;
  background: #fff; max-width: 62rem; margin: 0 auto; padding: 1.5rem 1.2rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0.4rem 0; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 0.6rem; padding-top: 0.8rem; border-top: 1px solid #dfe4e9; }
code, pre { font: 0.9em/1.5 ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
pre { background: #f3f5f7; padding: 0.8rem 1rem; border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
a { color: #1f5da8; }
nav a { margin-right: 1.1rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 0.8rem; margin: 1.2rem 0; }
.tile { flex: 1 1 9rem; background: #f3f5f7; border-radius: 6px; padding: 0.7rem 0.9rem; }
.tile b { display: block; font-size: 1.35rem; }
.tile span { font-size: 0.85rem; color: #5b6672; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; }
figcaption, .note { font-size: 0.9rem; color: #5b6672; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; margin: 0.6rem 0; }
th, td { text-align: left; padding: 0.3rem 0.9rem 0.3rem 0; border-bottom: 1px solid #e7ebef;
  vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
tr.marked td { font-weight: 600; background: #f3f7fc; }
dt { font-weight: 600; margin-top: 0.6rem; }
dd { margin: 0 0 0.4rem 1.2rem; }
"""


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
        trace: records of :func:`asvit_mm.searching.search_seeds`.
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
    summary = (
        f'<p>A vision transformer was designed without training any. {_number(len(trace), "candidate")} '
        f'({_number(different, "different one")} of {SEARCH_SPACE.size:,} possible) were built with '
        'random weights, each with one block a stage, and judged by two numbers that need no training. '
        f'The search proceeded by {METHOD_NAMES[result["settings"]["method"]]}. '
        f'{_limits(result["settings"])}</p>'
        f'<p>It found <code>{escape(str(arch))}</code>. {_standing(result, trace)}</p>'
    )
    sections = {
        'summary': ('In short', summary + _tiles(result) + _measures_explained(result['settings'])),
        'architecture': ('The architecture that was found', _architecture(folder, arch, result)),
        'search': ('The course of the search', _course(folder, trace, policies)),
        'measured': (
            'All networks that were measured',
            _picture(
                folder,
                'measured.png',
                'Each dot is a network, darker ones came later; the star is the found one'
                + (
                    ', the diamond the topology that the authors published.'
                    if str(PRESETS['seed']) in {record['arch'] for record in trace}
                    else '.'
                )
                + _left_out(trace),
            ),
        ),
        'cost': ('What the network costs', _cost(arch, result)),
        'train': (
            'Train it, or make it larger',
            _training(work_dir, result, data)
            + '<p>A seed is small. Grow it, again without training:</p>'
            + _command(['python', 'tools/scale.py', f'{work_dir}/result.json']),
        ),
        'run': ('This run', _run(work_dir, result, ('search.png', *_pictures(policies)))),
    }
    return _write(folder, f'As-ViT search: {arch}', sections)


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
    different = len({record['proxy'] for record in candidates})
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
        f'{_number(different, "different candidate")} were measured; every step gives one network of a '
        f'family, which has {len(series)}. It ended thus: {escape(result["stopped"])}. '
        f'{_limits(result["settings"])}</p>'
        f'<p>The largest is <code>{escape(str(arch))}</code> with {format_count(last["params"])} '
        'parameters.</p>'
    )
    sections = {
        'summary': ('In short', summary + _tiles(last) + _measures_explained(result['settings'])),
        **({'targets': ('Networks for the targets', _targets(targets))} if targets else {}),
        'architecture': (
            'The largest architecture',
            _architecture(folder, arch, last),
        ),
        'path': (
            'How the network grew',
            _picture(
                folder,
                'family.png',
                'Width and blocks against parameters, beside the published family (S, B and L: '
                'As-ViT-Small, -Base and -Large), counted with the same head and image size.',
            )
            + _picture(
                folder,
                'scaling.png',
                'Size and the two numbers along the steps; grey dots are candidates passed over. The '
                'numbers are those of the narrow copies, a quarter as wide.',
            ),
        ),
        'measured': (
            'All candidates that were measured',
            _picture(
                folder,
                'measured.png',
                'Each grey dot is a candidate; the blue ones were kept and are joined in their order. '
                'Later ones are larger, which moves both numbers.' + _left_out(candidates),
            ),
        ),
        'family': ('The family', _family(series, last)),
        'cost': ('What the largest network costs', _cost(arch, last)),
        'train': ('Train it', _training(work_dir, last, data)),
        'run': (
            'This run',
            _run(
                work_dir, result, ('scaling.png', 'family.png', 'measured.png', 'architecture.png')
            ),
        ),
    }
    return _write(folder, f'As-ViT scaling: {result["topology"]}', sections)


def run_command(work_dir: str, task: str, settings: Mapping[str, Any]) -> list[str]:
    """The words of the command that makes a run, with every setting that decides its result.

    Args:
        task: 'search' or 'scale', which name the tool.
        settings: of run.json.
    """
    words = ['python', f'tools/{task}.py']
    if 'arch' in settings:
        words.append(str(settings['arch']))
    words += ['--work-dir', work_dir]
    # Targets are budgets of their own: the tool takes no others beside them.
    left_out = {'arch', *(('min_params', 'max_params') if settings.get('targets') else ())}
    for name, value in settings.items():
        if name in left_out or value is None or value is False:
            continue
        words.append(f'--{name.replace("_", "-")}')
        if value is not True:
            words += map(str, value if isinstance(value, list) else [value])
    return words


def _standing(result: Record, trace: Sequence[Record]) -> str:
    """A sentence on how the found network compares with the others that were measured."""
    others = {r['arch']: r for r in trace if r['arch'] != result['arch'] and 'bad' not in r}
    own = result['length_distortion'], result['ntk_condition_number']
    if not others or None in own:
        return ''
    shorter = sum(r['length_distortion'] < own[0] for r in others.values())
    harder = sum(r['ntk_condition_number'] > own[1] for r in others.values())
    return (
        f'Of the {_number(len(others), "other network")} measured here, {shorter:,} have a lower '
        f'L<sup>E</sup> and {harder:,} a higher κ.'
    )


def _measures_explained(settings: Mapping[str, Any]) -> str:
    size = f'{settings["img_size"]} &times; {settings["img_size"]}'
    return (
        '<dl><dt>L<sup>E</sup>, length distortion: higher is better</dt><dd>A circle drawn in the space '
        'of images is sent through an untrained network. L<sup>E</sup> says how long the curve is that '
        'comes out: the longer, the richer the functions that the network can express.</dd>'
        '<dt>κ, condition number of the neural tangent kernel: lower is better</dt><dd>Compares how '
        'each of a few images would change the network at the start of training. The lower, the more '
        'evenly it learns from all of them, and the easier it is to train.</dd></dl>'
        f'<p>Both were measured on images of {size} pixels and are means over '
        f'{_number(settings["repeat"], "network")} with fresh random weights. Neither is an accuracy: '
        'they rank networks before training, and only training shows how good one is.</p>'
    )


def _limits(settings: Mapping[str, Any]) -> str:
    """A sentence on what no network may exceed."""
    limits = []
    for name, what in (('max_params', 'parameters'), ('max_flops', 'multiply-adds an image')):
        if settings.get(name) is not None:
            limits.append(f'{format_count(settings[name])} {what}')
    if settings.get('max_latency') is not None:
        limits.append(f'{settings["max_latency"]:g} ms an image')
    return f'Only networks of at most {", ".join(limits)} were considered.' if limits else ''


def _tiles(network: Record) -> str:
    length, kappa = (_value(network[n]) for n in ('length_distortion', 'ntk_condition_number'))
    size = f'{network["train_img_size"]} &times; {network["train_img_size"]}'
    tiles: tuple[tuple[str, str], ...] = (
        (format_count(network['params']), f'parameters, {network["num_classes"]} classes'),
        (format_count(network['macs']), f'multiply-adds an image of {size} pixels'),
        (length, 'length distortion L<sup>E</sup>, higher is better'),
        (kappa, 'condition number κ, lower is better'),
    )
    if 'latency_ms' in network:
        tiles += ((f'{network["latency_ms"]:.4g} ms', 'latency an image'),)
    blocks = (f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in tiles)
    return f'<div class="tiles">{"".join(blocks)}</div>'


def _architecture(folder: Path, arch: Architecture, network: Record) -> str:
    numbers = 'K,S,E' if arch.seed_form else 'K,S,E,L'
    last = 'H' if arch.seed_form else 'H,C'
    return (
        '<p>The image becomes a grid of tokens, each a list of numbers (channels) that describes its '
        'place. Four stages refine them; before each of the last three, neighbouring tokens are merged, '
        'which halves the grid and doubles the channels. In a block, tokens of a window exchange what '
        'they know (attention), then each is worked on by itself (feed-forward). In the end all tokens '
        'are averaged and classified.</p>'
        + _picture(
            folder,
            'architecture.png',
            'Each square is the whole image. Thin lines: tokens. Thick blue lines: windows. Orange: one '
            'token and what it is made of, an area of the image or of the tokens before; it looks at '
            'the pale blue window.',
        )
        + f'<p class="note">The string <code>{escape(str(arch))}</code> says the same: {numbers} for '
        f'each stage, then {last}. K is the kernel of the patch embedding or merging, S the windows a '
        'side, E the feed-forward expansion, H the attention heads of stage 4 (halved with every stage '
        'before it)'
        + ('.' if arch.seed_form else ', L the blocks, C the channels of stage 1.')
        + '</p>'
    )


def _course(folder: Path, trace: Sequence[Record], policies: Policies) -> str:
    caption = (
        'Each dot is the network of a step. Green: the best value so far of either number by itself, '
        'which need not be of the same network.'
    )
    if not policies:
        return _picture(folder, 'search.png', caption)
    return (
        _picture(
            folder,
            'search.png',
            caption
            + ' Below: the reward that a network brought, and the entropy of the policy, which falls '
            'as the search makes up its mind.',
        )
        + '<h3>What the search came to prefer</h3>'
        + _picture(
            folder,
            'policy.png',
            'The height of a band is the probability of that value at that step, all bands together '
            'are 100 %; a darker band is a larger value. Bands are labelled on the left, where the '
            'search knows nothing and takes all values for about equally good. Limits are left aside.',
        )
    )


def _pictures(policies: Policies) -> tuple[str, ...]:
    return (*(('policy.png',) if policies else ()), 'measured.png', 'architecture.png')


def _left_out(records: Sequence[Record]) -> str:
    bad = sum('bad' in record for record in records)
    return f' Left out: {_number(bad, "measurement")} without both numbers.' if bad else ''


def _cost(arch: Architecture, network: Record) -> str:
    size, classes = network['train_img_size'], network['num_classes']
    stages = stage_macs(arch, size)
    rest = network['macs'] - sum(stage.total for stage in stages)
    rows: list[tuple[str, ...]] = []
    for i, ((grid, _), macs) in enumerate(zip(token_grids(size), stages, strict=True)):
        window = window_length(grid, arch.splits[i])
        rows.append(
            (
                str(i + 1),
                f'{grid} &times; {grid}',
                f'{window_count(grid, window) ** 2} of {window} &times; {window}',
                str(arch.depths[i]),
                str(arch.widths[i]),
                format_count(macs.tokenize),
                format_count(macs.linear),
                format_count(macs.attention),
                format_count(macs.total),
            )
        )
    empty = ('',) * (NUM_STAGES + 3)
    rows.append(('head', *empty, format_count(rest)))
    rows.append(('whole', *empty, format_count(network['macs'])))
    header = ('stage', 'tokens', 'windows', 'blocks', 'channels', 'embedding or merging', 'linear layers',
              'attention products', 'multiply-adds')  # fmt: skip
    return (
        f'<p>{network["params"]:,} parameters with a head of {classes} classes; '
        f'{format_count(network["macs"])} multiply-adds for one image of {size} &times; {size} pixels (norms '
        'and activations are not counted):</p>'
        + _table(header, rows, numbers=range(1, 9), marked={5})
    )


def _family(series: Sequence[Record], last: Record) -> str:
    """The series, and the published family counted likewise."""
    size, classes = last['train_img_size'], last['num_classes']
    rows = [
        (
            _link(f'step {member["step"]}', member['config']),
            _code(member['arch']),
            format_count(member['params']),
            format_count(member['macs']),
            _value(member['length_distortion']),
            _value(member['ntk_condition_number']),
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
                _code(str(arch)),
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
        + _table(header, rows, numbers=range(2, 6), marked={len(series) - 1})
    )


def _targets(targets: Sequence[Record]) -> str:
    rows = []
    for target in targets:
        arch = _code(target['arch'])
        rows.append(
            (
                format_count(target['target']),
                _link('config', target['config']) if 'config' in target else '',
                arch,
                format_count(target['params']),
                format_count(target['macs']),
            )
        )
    header = ('at most', '', 'architecture', 'parameters', 'multiply-adds')
    return (
        '<p>The largest network at or under each number of parameters that was asked for. Each ends a '
        'growth of its own; the rest of this page shows the one for the largest target.</p>'
        + _table(header, rows, numbers=(0, 3, 4))
    )


def _training(work_dir: str, network: Record, data: DataSource) -> str:
    config = network['config']
    command = train_command(f'{work_dir}/{config}', data)
    detection = network.get('detection_config')
    detection = (
        f'<p>{_link(detection, detection)} makes it the backbone of a Mask R-CNN on COCO, for '
        'MMDetection.</p>'
        if detection
        else ''
    )
    note = f'<p class="note">{escape(data.note)}.</p>' if data.note else ''
    return (
        f'<p>The config {_link(config, config)} builds this network and trains it with MMPretrain; from '
        f'the folder of the repository:</p><pre>{escape(command)}</pre>{note}{detection}'
    )


def _run(work_dir: str, result: Record, pictures: Iterable[str]) -> str:
    files = {
        'result.json': 'the result, for other programs',
        'trace.jsonl': 'every measurement, one a line',
        'run.json': 'settings and versions',
        'timing.jsonl': 'the seconds that each line of the trace took',
        **dict.fromkeys(pictures, 'a picture of this page'),
        'configs/': 'configs to train with, for MMPretrain and for MMDetection',
    }
    rows = [(_link(name, name), what) for name, what in files.items()]
    settings = [(_code(k), _code(_plain(v))) for k, v in result['settings'].items()]
    versions = [(escape(k), escape(str(v))) for k, v in result['versions'].items()]
    versions.append(('threads', str(result['threads'])))
    return (
        '<p>The command, with all that decides the result:</p>'
        + _command(run_command(work_dir, result['task'], result['settings']))
        + '<h3>Files</h3>'
        + _table(('file', 'content'), rows)
        + '<h3>Settings</h3>'
        + _table(('setting', 'value'), settings)
        + '<h3>Versions</h3>'
        + _table(('what', 'version'), versions)
        + '<p class="note">Source of the method: As-ViT, Auto-scaling Vision Transformers without '
        'Training, arXiv 2202.11921.</p>'
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _number(count: int, what: str) -> str:
    return f'{count:,} {what}{"" if count == 1 else "s"}'


def _value(value: float | None) -> str:
    return '-' if value is None else f'{value:.4g}'


def _code(text: str) -> str:
    return f'<code>{escape(text)}</code>'


def _link(text: str, name: str) -> str:
    return f'<a href="{escape(quote(name))}">{escape(text)}</a>'


def _command(words: Sequence[str]) -> str:
    return f'<pre>{escape(shlex.join(words))}</pre>'


def _picture(folder: Path, name: str, caption: str) -> str:
    data = base64.b64encode((folder / name).read_bytes()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
        f'<figcaption>{escape(caption)} ({_link(name, name)})</figcaption></figure>'
    )


def _table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Iterable[int] = (),
    marked: Iterable[int] = (),
) -> str:
    """A table of cells that are HTML already.

    Args:
        numbers: columns that are aligned to the right.
        marked: rows that stand out.
    """
    right = set(numbers)

    def line(cells: Sequence[str], tag: str) -> str:
        return ''.join(
            f'<{tag}{" class=number" * (i in right)}>{cell}</{tag}>' for i, cell in enumerate(cells)
        )

    body = ''.join(
        f'<tr{" class=marked" * (i in set(marked))}>{line(row, "td")}</tr>'
        for i, row in enumerate(rows)
    )
    return (
        f'<div class="table"><table><thead><tr>{line(header, "th")}</tr></thead>'
        f'<tbody>{body}</tbody></table></div>'
    )


def _write(folder: Path, title: str, sections: Mapping[str, tuple[str, str]]) -> Path:
    contents = ''.join(f'<a href="#{key}">{name}</a> ' for key, (name, _) in sections.items())
    body = '\n'.join(
        f'<section id="{key}"><h2>{name}</h2>{text}</section>'
        for key, (name, text) in sections.items()
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{STYLE}</style></head>\n'
        f'<body><h1>{escape(title)}</h1><nav>{contents}</nav>\n{body}\n</body></html>\n'
    )
    return atomic_write_text(folder / 'report.html', page)
