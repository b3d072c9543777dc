"""What a run prints: a progress bar on a terminal or in a notebook, a few lines in a log, and a summary."""

import sys
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

        def log(done: float, text: str) -> None:
            nonlocal shown
            if (share := int(LOG_LINES * done / total)) > shown:
                shown = share
                print(f'{title}: {min(done / total, 1):4.0%}  {text}', flush=True)

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


def format_value(value: float | None) -> str:
    """A measured value for people; a dash where there is none."""
    return '-' if value is None else f'{value:.4g}'
