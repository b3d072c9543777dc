"""Pictures of a run: search, scaling and learning curve, as PNG files."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import InputError

BLUE, ORANGE, GREEN, RED, GREY = '#2f6db5', '#e07b28', '#2c8c5a', '#c23b3b', '#9aa3ad'
LENGTH_LABEL = 'length distortion $L^E$'
KAPPA_LABEL = r'NTK condition number $\kappa$'


def plot_search(trace: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> Path:
    """L^E and kappa against the step, and where the search has a policy its reward and entropy.

    Args:
        trace: records of :func:`asvit_mm.nas.iterate_search`.
    """
    steps = np.array([record['step'] for record in trace])
    lengths, kappas = _measures(trace)
    policy = 'reward' in trace[0]
    with _figure(path, 1 + policy, 2, (10, 3.7 + 3.5 * policy)) as axes:
        if policy:
            rewards, baseline, entropy = (
                np.array([record[name] for record in trace])
                for name in ('reward', 'baseline', 'entropy')
            )
            _series(axes[1, 0], steps, rewards, BLUE, 'reward')
            axes[1, 0].plot(
                steps, baseline, color=ORANGE, lw=1.6, label='moving average (baseline)'
            )
            axes[1, 0].set_title('Reward')
            axes[1, 1].plot(steps, entropy, color=GREEN, lw=1.8)
            axes[1, 1].set_title('Entropy of the policy (nats)')
            axes[1, 1].set_ylim(0, 1.05 * entropy.max())
        for ax, values, best, title in (
            (axes[0, 0], lengths, np.fmax, LENGTH_LABEL + ' (higher is better)'),
            (axes[0, 1], kappas, np.fmin, KAPPA_LABEL + ' (lower is better)'),
        ):
            _series(ax, steps, values, BLUE, 'network of the step')
            _smooth(ax, steps, values, ORANGE)
            so_far = best.accumulate(values)
            ax.step(steps, so_far, color=GREEN, lw=1.2, where='post', label='best so far')
            ax.set_title(title)
            _log_if_wide(ax, values)
            bad = steps[np.isnan(values)]
            if len(bad):
                ax.plot(
                    bad, np.full(len(bad), 0.98), 'x', color=RED, ms=5, label='bad network',
                    transform=ax.get_xaxis_transform(),
                )  # fmt: skip
        for ax in axes.flat:
            ax.set_xlabel('step')
            ax.set_xlim(-0.02 * len(steps) - 0.3, 1.02 * len(steps) - 0.7)
            ax.xaxis.set_major_locator(step_ticks())
            if ax.get_legend_handles_labels()[0]:
                # Below the panel, where it hides no network.
                ax.legend(loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=2, markerscale=1.5)
    return Path(path)


def plot_scaling(
    series: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    min_params: int | None = None,
    max_params: int | None = None,
) -> Path:
    """L^E, kappa, depths and parameters along the series; grey dots are the candidates passed over.

    Args:
        series: members as :meth:`asvit_mm.nas.AutoScaling.step` returns them.
        min_params, max_params: the budget, drawn as lines.
    """
    steps = np.array([member['step'] for member in series])
    params = np.array([member['params'] for member in series]) / 1e6
    lengths, kappas = _measures(series)
    with _figure(path, 2, 2, (10, 6.4)) as axes:
        top = axes[0, 0]
        top.plot(steps, params, 'o-', color=BLUE, ms=4, lw=1.8, label='series')
        for limit, name in ((min_params, 'minimum'), (max_params, 'maximum')):
            if limit is not None:
                top.axhline(
                    limit / 1e6, color=RED, lw=1, ls='--' if name == 'minimum' else ':', label=name
                )
        top.set_title('Parameters of the real network (millions)')
        top.legend(loc='best')
        blocks = axes[0, 1]
        below = np.zeros(len(steps))
        for stage, color in enumerate((GREEN, ORANGE, BLUE, RED)):
            depths = np.array([member['depths'][stage] for member in series])
            blocks.bar(
                steps,
                depths,
                0.7,
                bottom=below,
                color=color,
                alpha=0.75,
                label=f'stage {stage + 1}',
            )
            below += depths
        blocks.set_ylim(0, below.max() * 1.45)
        blocks.yaxis.set_major_locator(MaxNLocator(integer=True))
        blocks.set_title('Blocks of each stage; width of stage 1 (line, right)')
        blocks.legend(loc='upper left', ncols=2)
        width = blocks.twinx()
        width.plot(
            steps, [member['width'] for member in series], 'o-', color='#4a525a', ms=3.5, lw=1.4
        )
        width.set_ylim(0, 1.1 * max(member['width'] for member in series))
        width.yaxis.set_major_locator(MaxNLocator(integer=True))
        width.tick_params(labelsize=8.5, color=GREY)
        width.spines[:].set_visible(False)
        for ax, name, values, title in (
            (axes[1, 0], 'length_distortion', lengths, LENGTH_LABEL + ' of the proxy'),
            (axes[1, 1], 'ntk_condition_number', kappas, KAPPA_LABEL + ' of the proxy'),
        ):
            dots = [
                (member['step'], candidate[name])
                for member in series
                for candidate in member.get('candidates', ())
                if candidate[name] is not None
            ]
            if dots:
                ax.plot(
                    *zip(*dots, strict=True),
                    'o',
                    color=GREY,
                    ms=3,
                    alpha=0.5,
                    label='candidates',
                    lw=0,
                )
            ax.plot(steps, values, 'o-', color=BLUE, ms=4, lw=1.8, label='series')
            ax.set_title(title)
            _log_if_wide(ax, values)
            ax.legend(loc='best')
        for ax in axes.flat:
            ax.set_xlabel('step')
            ax.set_xlim(0.4, len(series) + 0.6)
            ax.xaxis.set_major_locator(step_ticks())
    return Path(path)


def read_scalars(
    path: str | os.PathLike[str],
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Training loss and validation accuracy by epoch from MMEngine's scalars (JSON lines).

    Args:
        path: ``<work dir>/<time>/vis_data/scalars.json``.

    Returns:
        (training: epoch, loss, lr), (validation: epoch, accuracy in per cent); an epoch of training
        counts the iterations done within it.

    Raises:
        InputError: no such file, or nothing of the kind in it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'{str(path)!r} does not exist: give the scalars.json of a training run')
    try:
        records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise InputError(f'{str(path)!r} holds no JSON lines: {error}') from None
    train: dict[str, list[float]] = {'epoch': [], 'loss': [], 'lr': []}
    val: dict[str, list[float]] = {'epoch': [], 'accuracy': []}
    steps = [r for r in records if 'loss' in r]
    # MMEngine writes the epoch that runs (from 1) and the iterations since the start.
    per_epoch = max((r['iter'] / r.get('epoch', 1) for r in steps), default=1.0)
    for record in steps:
        train['epoch'].append(record['iter'] / per_epoch)
        train['loss'].append(record['loss'])
        train['lr'].append(record.get('lr', float('nan')))
    for record in records:
        accuracy = record.get('accuracy/top1', record.get('single-label/accuracy/top1'))
        if accuracy is not None:
            val['epoch'].append(record['step'])
            val['accuracy'].append(accuracy)
    if not train['loss'] and not val['accuracy']:
        raise InputError(f'{str(path)!r} has neither a loss nor an accuracy in it')
    return train, val


def plot_learning_curve(
    scalars: str | os.PathLike[str],
    path: str | os.PathLike[str],
    phases: Sequence[Mapping[str, int]] = (),
) -> Path:
    """Training loss and validation accuracy against the epoch.

    Args:
        scalars: see :func:`read_scalars`.
        phases: of progressive tokenization (``end`` in epochs, ``stride``), drawn as bands.
    """
    train, val = read_scalars(scalars)
    with _figure(path, 1, 2, (10, 3.8)) as axes:
        left, right = axes.flat
        left.plot(train['epoch'], train['loss'], color=BLUE, lw=1.6)
        left.set_title('Training loss')
        if train['loss'] and min(train['loss']) > 0:
            _log_if_wide(left, np.array(train['loss']))
        right.plot(val['epoch'], val['accuracy'], 'o-', color=GREEN, ms=3.5, lw=1.6)
        if val['accuracy']:
            best = int(np.argmax(val['accuracy']))
            right.annotate(
                f'best {val["accuracy"][best]:.2f} %',
                (val['epoch'][best], val['accuracy'][best]),
                xytext=(0, -22),
                textcoords='offset points',
                ha='right',
                color=GREEN,
            )
        right.set_title('Top-1 accuracy on held-out images (%)')
        for ax in (left, right):
            start = 0
            for i, phase in enumerate(phases):
                ax.axvspan(
                    start, phase['end'], color=GREY, alpha=(0.28, 0.16, 0.0)[min(i, 2)], lw=0
                )
                # A narrow band has its label upright.
                narrow = phase['end'] - start < 0.15 * phases[-1]['end']
                ax.text(
                    (start + phase['end']) / 2,
                    0.03,
                    f'stride {phase["stride"]}',
                    rotation=90 if narrow else 0,
                    ha='center',
                    fontsize=8,
                    color='#5c6670',
                    transform=ax.get_xaxis_transform(),
                )
                start = phase['end']
            ax.set_xlabel('epoch')
            ax.set_xlim(left=0)
    return Path(path)


def step_ticks() -> MaxNLocator:
    """Few round numbers for an axis of steps."""
    return MaxNLocator(5, integer=True, steps=[1, 2, 5, 10])


def _measures(records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """L^E and kappa of each record, NaN where there is none."""
    lengths, kappas = (
        np.array(
            [np.nan if record[name] is None else record[name] for record in records], dtype=float
        )
        for name in ('length_distortion', 'ntk_condition_number')
    )
    return lengths, kappas


def _series(ax: Axes, steps: np.ndarray, values: np.ndarray, color: str, label: str) -> None:
    size = 3.5 if len(steps) <= 200 else 2.2
    ax.plot(steps, values, 'o', color=color, ms=size, alpha=0.45, label=label, mew=0)


def _smooth(ax: Axes, steps: np.ndarray, values: np.ndarray, color: str) -> None:
    """Median of the last 5 % of the run, at least 5 steps, which single outliers do not move."""
    window = max(5, len(values) // 20)
    if len(values) < 2 * window:
        return
    medians = [
        np.nanmedian(part) if np.isfinite(part).any() else np.nan
        for part in (values[max(0, i + 1 - window) : i + 1] for i in range(len(values)))
    ]
    ax.plot(steps, medians, color=color, lw=1.6, label=f'median of the last {window}')


def _log_if_wide(ax: Axes, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() > 20 * finite.min():
        ax.set_yscale('log')


@contextmanager
def _figure(
    path: str | os.PathLike[str], rows: int, columns: int, size: tuple[float, float]
) -> Iterator[np.ndarray]:
    """Yield the axes of a figure that is written to ``path`` (PNG), whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without pyplot there is no global state, no display and nothing to close.
    figure = Figure(figsize=size, dpi=130, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.grid(True, color='#e3e7eb', lw=0.8)
        ax.set_axisbelow(True)
        ax.spines[['top', 'right']].set_visible(False)
    yield axes
    for ax in axes.flat:
        ax.title.set_fontsize(10.5)
        ax.tick_params(labelsize=8.5, color=GREY)
        ax.spines[['left', 'bottom']].set_color(GREY)
        legend = ax.get_legend()
        if legend is not None:
            legend.get_frame().set(facecolor='white', edgecolor='none', alpha=0.8)
            for text in legend.get_texts():
                text.set_fontsize(8)
    # Named as other files are while they are written, so that what a kill leaves is found.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            figure.savefig(file, format='png')
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
