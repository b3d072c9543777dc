"""Figures of a search, of a scaling run and of training, as PNG files.

Records are plain data, as in trace.jsonl and result.json.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from ..arch import NUM_STAGES, PRESETS, SearchSpace
from ..errors import InputError
from .figure import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    KAPPA_LABEL,
    LENGTH_LABEL,
    ORANGE,
    RED,
    SHADES,
    figure,
    log_if_wide,
    step_ticks,
)

Record = Mapping[str, Any]
PathLike = str | os.PathLike[str]
# The two measures: field of a record, and label.
MEASURES = (
    ('length_distortion', f'{LENGTH_LABEL} (higher is better)'),
    ('ntk_condition_number', f'{KAPPA_LABEL} (lower is better)'),
)
CHOICES = {'K': 'merging kernel', 'S': 'windows per side', 'E': 'feed-forward expansion'}
# A band of probability that is thinner than this has no room for its label.
LABELLED = 0.12


def plot_search(records: Sequence[Record], path: PathLike) -> None:
    """Both measures against the step; below, if a policy was learned, its reward and entropy.

    The best so far is what the search would have found if it had ended with the step. It has no value there
    where it was never measured.
    """
    found = {record['arch']: record for record in records}
    steps = column(records, 'step')
    learned = 'reward' in records[0]
    dots = {'color': BLUE, 'ms': 3.5 if len(steps) <= 200 else 2.2, 'alpha': 0.5, 'mew': 0}
    with figure(path, 1 + learned, 2, (10, 3.7 + 3.5 * learned)) as axes:
        for ax, (name, label) in zip(axes[0], MEASURES, strict=True):
            values = column(records, name)
            ax.plot(steps, values, 'o', label='network of this step', **dots)
            _running_median(ax, steps, values)
            best = column([found.get(r.get('best'), {name: None}) for r in records], name)
            if np.isfinite(best).any():
                ax.plot(steps, best, '.-', c=GREEN, lw=1.2, ms=4, label='best so far')
            missing = steps[np.isnan(values)]
            if len(missing):
                top = {'transform': ax.get_xaxis_transform(), 'color': RED, 'ms': 5}
                ax.plot(missing, np.full(len(missing), 0.98), 'x', label='no value', **top)
            log_if_wide(ax, 'y', values)
            ax.set_title(label)
        if learned:
            reward, entropy = axes[1]
            reward.plot(steps, column(records, 'reward'), 'o', label='reward', **dots)
            baseline = column(records, 'baseline')
            reward.plot(steps, baseline, color=ORANGE, lw=1.6, label='baseline (moving average)')
            reward.set_title('Reward')
            nats = column(records, 'entropy')
            entropy.plot(steps, nats, color=GREEN, lw=1.8)
            entropy.set_title('Entropy of the policy (nats)')
            entropy.set_ylim(0, 1.05 * nats.max())
        for ax in axes.flat:
            ax.set_xlabel('step')
            ax.set_xlim(-0.02 * len(steps) - 0.3, 1.02 * len(steps) - 0.7)
            ax.xaxis.set_major_locator(step_ticks())
            _legend_below(ax)


def plot_policy(
    policies: Sequence[Sequence[Sequence[float]]], space: SearchSpace, path: PathLike
) -> None:
    """The probability of every value of every choice against the step; one panel per choice.

    Args:
        policies: before the first step and after each: for every choice of the space the probability of
            each value.
    """
    shades = LinearSegmentedColormap.from_list('shades', SHADES)
    after = np.arange(len(policies))
    with figure(path, len(CHOICES), NUM_STAGES, (12, 7.2)) as axes:
        for k, (name, values) in enumerate(space.choices.items()):
            # H, the only choice that belongs to no stage, takes the panel of S4, which is fixed.
            row, stage = ('S', NUM_STAGES) if name == 'H' else (name[0], int(name[1]))
            what = {'H': 'heads of stage 4', 'K1': 'embedding kernel'}.get(name, CHOICES[row])
            ax = axes[list(CHOICES).index(row), stage - 1]
            probs = np.array([policy[k] for policy in policies]).T
            colors = shades(np.linspace(0, 1, len(values)))
            ax.stackplot(after, probs, colors=colors, lw=0.5, ec='white')
            middles = probs.cumsum(0) - probs / 2
            # All values are about equally likely at first: there is room for every label.
            ax.set_yticks(middles[:, 0], [str(value) for value in values])
            for i in np.flatnonzero(probs[:, -1] >= LABELLED):
                color = 'white' if i > (len(values) - 1) / 3 else DARK
                ax.text(0.97 * after[-1], middles[i, -1], f'{values[i]}', ha='right', va='center',
                        fontweight='bold', color=color)  # fmt: skip
            likely = probs[:, -1].argmax()
            ax.set_title(f'{name}: {what}\nends at {values[likely]} ({probs[likely, -1]:.0%})')
            ax.set(xlim=(0, after[-1]), ylim=(0, 1))
            ax.xaxis.set_major_locator(step_ticks())
            ax.tick_params(axis='y', length=0)
            ax.grid(False)
        for ax in axes[-1]:
            ax.set_xlabel('step')
        for ax in axes[:, 0]:
            ax.set_ylabel('probability of each value')


def plot_measured(records: Sequence[Record], result: Record, path: PathLike) -> None:
    """Length distortion against the NTK condition number of every network, the result marked.

    The seed that the paper published is marked too where it is among them.
    """
    (length, length_label), (kappa, kappa_label) = MEASURES
    kappas, lengths = column(records, kappa), column(records, length)
    published = [record for record in records if record['arch'] == str(PRESETS['seed'])]
    shades = LinearSegmentedColormap.from_list('shades', SHADES)
    with figure(path, 1, 1, (9, 5.4)) as axes:
        ax = axes[0, 0]
        dots = ax.scatter(kappas, lengths, c=column(records, 'step'), cmap=shades, s=26, lw=0.3,
                          ec='white', vmin=0)  # fmt: skip
        for label, marked, style in (
            ('found', [result], {'marker': '*', 'color': RED, 's': 260}),
            ('published seed', published[:1], {'marker': 'D', 'color': ORANGE, 's': 60}),
        ):
            x, y = column(marked, kappa), column(marked, length)
            if np.isfinite(x + y).any():
                ax.scatter(x, y, lw=0.8, ec='white', zorder=3, label=label, **style)
        ax.set(xlabel=kappa_label, ylabel=length_label)
        ax.set_title('Every measured network; better is up and to the left')
        log_if_wide(ax, 'x', kappas)
        log_if_wide(ax, 'y', lengths)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc='best')
        bar = ax.figure.colorbar(dots, ax=ax, aspect=36, pad=0.02, label='step')
        bar.ax.yaxis.set_major_locator(step_ticks())
        bar.outline.set_visible(False)


def plot_scaling(
    series: Sequence[Record],
    path: PathLike,
    min_params: int | None = None,
    max_params: int | None = None,
) -> None:
    """Parameters, depths, width and both measures against the step of a scaling run.

    Args:
        series: the network of each step; those with ``candidates`` show what was tried beside them.
        min_params, max_params: the budget, drawn as lines.
    """
    steps = column(series, 'step')
    line = {'marker': 'o', 'ms': 4, 'lw': 1.8}
    with figure(path, 2, 2, (10, 7.6)) as axes:
        size, blocks = axes[0]
        size.plot(steps, column(series, 'params') / 1e6, color=BLUE, label='chosen network', **line)
        for limit, label, style in ((min_params, 'minimum', '--'), (max_params, 'maximum', ':')):
            if limit is not None:
                size.axhline(limit / 1e6, color=RED, lw=1.3, ls=style, label=label)
        size.set_title('Parameters (millions)')
        depths = np.array([member['depths'] for member in series]).T
        tops = depths.cumsum(0)
        for i, (depth, top) in enumerate(zip(depths, tops, strict=True)):
            blocks.bar(steps, depth, 0.7, top - depth, color=SHADES[i], label=f'stage {i + 1}')
        blocks.set_ylim(0, 1.1 * tops.max())
        blocks.set_title('Depth: blocks per stage (bars); width of stage 1 (line)')
        width = blocks.twinx()
        width.plot(steps, column(series, 'width'), color=ORANGE, label='width (right)', **line)
        width.set_ylim(0, 1.1 * max(member['width'] for member in series))
        width.spines[:].set_visible(False)
        width.grid(False)
        for ax in (blocks, width):
            ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        tried = [{**c, 'step': m['step']} for m in series for c in m.get('candidates', ())]
        for ax, (name, label) in zip(axes[1], MEASURES, strict=True):
            if tried:
                ax.plot(column(tried, 'step'), column(tried, name), 'o', color=GREY, ms=3.5,
                        alpha=0.6, mew=0, label='candidates')  # fmt: skip
            ax.plot(steps, column(series, name), color=BLUE, label='chosen network', **line)
            log_if_wide(ax, 'y', column([*series, *tried], name))
            ax.set_title(label)
        for ax in axes.flat:
            ax.set_xlabel('step')
            ax.set_xlim(0.4, len(series) + 0.6)
            ax.xaxis.set_major_locator(step_ticks())
            _legend_below(*((blocks, width) if ax is blocks else (ax,)))


def plot_front(
    points: Sequence[tuple[float, float]], front: Sequence[Record], label: str, path: PathLike
) -> None:
    """Score against multiply-adds of every network that was compared; the front as a line.

    Args:
        points: (multiply-adds, score) of each.
        front: records with ``macs`` and ``score``, from the cheapest on.
        label: of the score.
    """
    macs, scores = np.array(points, float).reshape(-1, 2).T
    with figure(path, 1, 1, (9, 4.6)) as axes:
        ax = axes[0, 0]
        ax.plot(macs / 1e6, scores, 'o', color=GREY, ms=4, alpha=0.6, mew=0, label='compared')
        line = {'color': RED, 'marker': 'o', 'ms': 6, 'lw': 1.4, 'label': 'front'}
        ax.plot(column(front, 'macs') / 1e6, column(front, 'score'), **line)
        ax.set(xlabel='multiply-adds per image (millions)', ylabel=label)
        log_if_wide(ax, 'x', macs / 1e6)
        ax.legend(loc='lower right')


def plot_race(race: Record, path: PathLike) -> None:
    """Accuracy of the finalists in every round of a race, and the learning curve of the winner."""
    with figure(path, 1, 2, (10, 3.9)) as axes:
        rounds, curve = axes.flat
        for place, one in enumerate(race['finalists']):
            accuracies = one['top1']
            style = (
                {'color': GREEN, 'lw': 2, 'zorder': 3} if not place else {'color': GREY, 'lw': 1.2}
            )
            label = {0: 'winner', 1: 'other finalists'}.get(place)
            rounds.plot(range(1, len(accuracies) + 1), accuracies, 'o-', ms=4, label=label, **style)
        ticks = [
            f'{number}\n{one["epochs"]} epochs' for number, one in enumerate(race['rounds'], 1)
        ]
        rounds.set_xticks(range(1, len(ticks) + 1), ticks)
        rounds.set_title('Accuracy on held-out images in every round (%)')
        rounds.legend(loc='lower right')
        epochs, top1 = np.array(race['curve'], float).reshape(-1, 2).T
        curve.plot(epochs, top1, 'o-', color=GREEN, ms=4, lw=1.8)
        curve.set_title('The winner in its last round (%)')
        curve.set_xlabel('epoch')
        curve.xaxis.set_major_locator(step_ticks())


def read_scalars(path: PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Training loss and validation accuracy by epoch from MMEngine's scalars (JSON lines).

    Args:
        path: ``<work dir>/<time>/vis_data/scalars.json``; an InputError if it does not have such values.

    Returns:
        two arrays (number, 2): (epoch, loss), where the epoch counts the iterations within it, and
        (epoch, top-1 accuracy in per cent).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'{str(path)!r} does not exist: give the scalars.json of a training run')
    try:
        records = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise InputError(f'{str(path)!r} is not made of JSON lines: {error}') from None
    training = [r for r in records if 'loss' in r]
    # MMEngine writes the current epoch (from 1) and the iterations since the start.
    per_epoch = max((r['iter'] / r.get('epoch', 1) for r in training), default=1.0)
    losses = [(r['iter'] / per_epoch, r['loss']) for r in training]
    names = ('accuracy/top1', 'single-label/accuracy/top1')
    accuracies = [(r['step'], r[name]) for r in records for name in names if name in r]
    if not losses and not accuracies:
        raise InputError(f'{str(path)!r} has neither a loss nor an accuracy in it')
    return np.array(losses).reshape(-1, 2), np.array(accuracies).reshape(-1, 2)


def plot_learning_curve(
    scalars: PathLike, path: PathLike, phases: Sequence[Mapping[str, int]] = ()
) -> None:
    """Training loss and validation accuracy against the epoch.

    Args:
        scalars: see :func:`read_scalars`.
        phases: of progressive tokenization (``end`` in epochs, ``stride``), drawn as bands.
    """
    losses, accuracies = read_scalars(scalars)
    with figure(path, 1, 2, (10, 3.8)) as axes:
        left, right = axes.flat
        left.plot(*losses.T, color=BLUE, lw=1.6)
        left.set_title('Training loss')
        log_if_wide(left, 'y', losses[:, 1])
        right.plot(*accuracies.T, 'o-', color=GREEN, ms=3.5, lw=1.6)
        right.set_title('Top-1 accuracy on held-out images (%)')
        if len(accuracies):
            best = accuracies[accuracies[:, 1].argmax()]
            right.annotate(f'best: {best[1]:.2f}%', best, xytext=(0, -22), ha='right', color=GREEN,
                           textcoords='offset points')  # fmt: skip
        for ax in axes.flat:
            start = 0
            for i, phase in enumerate(phases):
                alpha = (0.3, 0.15, 0)[min(i, 2)]
                ax.axvspan(start, phase['end'], color=GREY, alpha=alpha, lw=0)
                # The label of a narrow band is upright.
                narrow = phase['end'] - start < 0.15 * phases[-1]['end']
                ax.text((start + phase['end']) / 2, 0.03, f'stride {phase["stride"]}', ha='center',
                        rotation=90 if narrow else 0, fontsize=8.5, color=DARK,
                        transform=ax.get_xaxis_transform())  # fmt: skip
                start = phase['end']
            ax.set_xlabel('epoch')
            ax.set_xlim(left=0)


def column(records: Sequence[Record], name: str) -> np.ndarray:
    """A field of all records; NaN where it is None."""
    return np.array([record[name] for record in records], dtype=float)


def _running_median(ax: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    """The median of the last 5 % of the steps, at least 5: single outliers do not move it."""
    window = max(5, len(values) // 20)
    if len(values) < 2 * window:
        return
    parts = [values[max(0, i + 1 - window) : i + 1] for i in range(len(values))]
    medians = [np.nanmedian(part) if np.isfinite(part).any() else np.nan for part in parts]
    ax.plot(steps, medians, color=ORANGE, lw=1.6, label=f'median of the last {window}')


def _legend_below(*axes: Axes) -> None:
    """One legend of all axes, if they have one, below the first: there it hides no data."""
    handles = [handle for ax in axes for handle in ax.get_legend_handles_labels()[0]]
    if handles:
        axes[0].legend(handles=handles, loc='upper center', bbox_to_anchor=(0.5, -0.16), ncols=3)
