"""Sections that the reports of a search and of a scaling run share, as HTML."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..arch import NUM_STAGES, Architecture
from ..config_writer.configs import train_command
from ..cost import stage_macs, token_grids
from ..data.source import DataSource
from ..tokens import window_count, window_length
from ..utils.units import format_count
from . import page

Record = Mapping[str, Any]


def measures_explained(settings: Mapping[str, Any]) -> str:
    """What the two measures are, and on what they were taken."""
    size = f'{settings["img_size"]} &times; {settings["img_size"]}'
    return (
        '<dl><dt>L<sup>E</sup>, length distortion: higher is better</dt><dd>A circle drawn in the space '
        'of images is sent through an untrained network. L<sup>E</sup> says how long the curve is that '
        'comes out: the longer, the richer the functions that the network can express.</dd>'
        '<dt>κ, condition number of the neural tangent kernel: lower is better</dt><dd>Compares how '
        'each of a few images would change the network at the start of training. The lower, the more '
        'evenly it learns from all of them, and the easier it is to train.</dd></dl>'
        f'<p>Both were measured on images of {size} pixels and are means over '
        f'{page.number(settings["repeat"], "network")} with fresh random weights. Neither is an accuracy: '
        'they rank networks before training, and only training shows how good one is.</p>'
    )


def limits_sentence(settings: Mapping[str, Any]) -> str:
    """A sentence on what no network may exceed."""
    limits = []
    for name, what in (('max_params', 'parameters'), ('max_flops', 'multiply-adds an image')):
        if settings.get(name) is not None:
            limits.append(f'{format_count(settings[name])} {what}')
    if settings.get('max_latency') is not None:
        limits.append(f'{settings["max_latency"]:g} ms an image')
    return f'Only networks of at most {", ".join(limits)} were considered.' if limits else ''


def tiles(network: Record) -> str:
    """The figures of a network that matter most, large."""
    length, kappa = (page.value(network[n]) for n in ('length_distortion', 'ntk_condition_number'))
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


def architecture_section(folder: Path, arch: Architecture, network: Record) -> str:
    """The drawing of the architecture, and how to read its string."""
    numbers = 'K,S,E' if arch.seed_form else 'K,S,E,L'
    last = 'H' if arch.seed_form else 'H,C'
    return (
        '<p>The image becomes a grid of tokens, each a list of numbers (channels) that describes its '
        'place. Four stages refine them; before each of the last three, neighbouring tokens are merged, '
        'which halves the grid and doubles the channels. In a block, tokens of a window exchange what '
        'they know (attention), then each is worked on by itself (feed-forward). In the end all tokens '
        'are averaged and classified.</p>'
        + page.picture(
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


def left_out_sentence(records: Sequence[Record]) -> str:
    """How many of the records a scatter plot does not show; empty where it shows all."""
    slow = sum('refused' in record for record in records)
    bad = sum('invalid' in record for record in records)
    left_out = [f'{page.number(bad, "measurement")} without both numbers'] if bad else []
    left_out += [f'{slow:,} of networks that were too slow and only timed'] if slow else []
    return f' Left out: {", ".join(left_out)}.' if left_out else ''


def cost_section(arch: Architecture, network: Record) -> str:
    """Parameters, and a table of the multiply-adds of each stage."""
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
        + page.table(header, rows, numbers=range(1, 9), marked={5})
    )


def training_section(work_dir: str, network: Record, data: DataSource) -> str:
    """The command that trains the network, and its configs."""
    config = network['config']
    command = train_command(f'{work_dir}/{config}', data)
    detection = network.get('detection_config')
    detection = (
        f'<p>{page.link(detection, detection)} makes it the backbone of a Mask R-CNN on COCO, for '
        'MMDetection.</p>'
        if detection
        else ''
    )
    note = f'<p class="note">{escape(data.note)}.</p>' if data.note else ''
    return (
        f'<p>The config {page.link(config, config)} builds this network and trains it with MMPretrain; from '
        f'the folder of the repository:</p><pre>{escape(command)}</pre>{note}{detection}'
    )


def run_section(work_dir: str, result: Record, pictures: Iterable[str]) -> str:
    """The command that makes the run, its files, settings and versions."""
    files = {
        'result.json': 'the result, for other programs',
        'trace.jsonl': 'every measurement, one a line',
        'run.json': 'settings and versions',
        'timing.jsonl': 'the seconds that each line of the trace took',
        **dict.fromkeys(pictures, 'a picture of this page'),
        'configs/': 'configs to train with, for MMPretrain and for MMDetection',
    }
    rows = [(page.link(name, name), what) for name, what in files.items()]
    settings = [(page.code(k), page.code(_plain(v))) for k, v in result['settings'].items()]
    versions = [(escape(k), escape(str(v))) for k, v in result['versions'].items()]
    versions.append(('threads', str(result['threads'])))
    return (
        '<p>The command, with all that decides the result but the number of threads '
        f'({result["threads"]} here; OMP_NUM_THREADS sets it):</p>'
        + page.command(run_command(work_dir, result['task'], result['settings']))
        + '<h3>Files</h3>'
        + page.table(('file', 'content'), rows)
        + '<h3>Settings</h3>'
        + page.table(('setting', 'value'), settings)
        + '<h3>Versions</h3>'
        + page.table(('what', 'version'), versions)
        + '<p class="note">Source of the method: As-ViT, Auto-scaling Vision Transformers without '
        'Training, arXiv 2202.11921.</p>'
    )


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
    return words + _flags({k: v for k, v in settings.items() if k not in left_out})


def scale_command(work_dir: str, settings: Mapping[str, Any]) -> list[str]:
    """The words of the command that scales what a search found, measuring as the search did.

    Args:
        settings: of the search's run.json.
    """
    kept = (
        'data',
        'img_size',
        'batch_size',
        'repeat',
        'seed',
        'device',
        'progressive',
        'remeasure',
    )
    return [
        *('python', 'tools/scale.py', f'{work_dir}/result.json'),
        *_flags({name: settings[name] for name in kept}),
    ]


def _flags(settings: Mapping[str, Any]) -> list[str]:
    words = []
    for name, value in settings.items():
        if value is None or value is False:
            continue
        words.append(f'--{name.replace("_", "-")}')
        if value is not True:
            words += map(str, value if isinstance(value, list) else [value])
    return words


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
