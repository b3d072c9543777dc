"""What a run prints: a progress bar on a terminal or in a notebook, a few lines in a log, and a summary."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG_LINES = 10


@contextmanager
def show_progress(
    title: str, total: float, *, counts: bool = True, console: Console | None = None
) -> Iterator[Callable[[float, str], None]]:
    """Show the progress of the block: as a bar, or as at most ten lines where there can be none.

    Both say how much time is left, from what the part since the first update took.

    Args:
        title: what the bar is called.
        total: what the run counts up to.
        counts: whether the bar shows 120/500 or 24 %.
        console: where to print; None: wherever stdout goes.

    Yields:
        a function that updates it, called with how much is done and a text to show beside it.
    """
    console = console or Console(highlight=False)
    if not _can_redraw(console):
        shown = 0
        first: tuple[float, float] | None = None

        def log(done: float, text: str) -> None:
            nonlocal shown, first
            now = time.monotonic()
            if first is None:
                first = now, done
            if (share := int(LOG_LINES * done / total)) > shown:
                shown = share
                began, before = first
                left = ''
                if before < done < total:
                    seconds = (now - began) * (total - done) / (done - before)
                    left = f'  {format_seconds(seconds)} left'
                print(f'{title}: {min(done / total, 1):4.0%}{left}  {text}', flush=True)

        yield log
        return
    bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(bar_width=24),
        MofNCompleteColumn() if counts else TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn('{task.fields[text]}', markup=False),
        console=console,
    )
    task = bar.add_task(title, total=total, text='')
    with bar:
        try:
            yield lambda done, text: bar.update(task, completed=min(done, total), text=text)
        finally:
            # In a notebook rich leaves the bar as it was up to a quarter of a second before the end.
            bar.refresh()


def _can_redraw(console: Console) -> bool:
    """Whether what was printed can be replaced: on a terminal, and in a notebook by ipywidgets.

    Without ipywidgets rich would warn and show nothing.
    """
    if console.is_jupyter:
        return find_spec('ipywidgets') is not None
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Print each warning of the block to stderr once, in one line, at its end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always', UserWarning)
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        print(f'warning: {message}', file=sys.stderr)


def format_seconds(seconds: float) -> str:
    """A duration for people: 12 s, 3 min, 1 h 5 min."""
    if seconds < 60:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'


def format_value(value: float | None) -> str:
    """A measured value for people; a dash where there is none."""
    return '-' if value is None else f'{value:.4g}'
