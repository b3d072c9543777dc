"""Tables of figures, each row a mapping from column to cell: for the terminal and in Markdown."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

Rows = Sequence[Mapping[str, str]]


def print_table(title: str, rows: Rows, width: int = 100) -> None:
    """Print a table at least ``width`` characters wide: where output is piped, it has no width."""
    table = Table(title=title, title_justify='left')
    for i, name in enumerate(rows[0]):
        table.add_column(name, justify='right' if i else 'left')
    for row in rows:
        table.add_row(*row.values())
    console = Console(highlight=False)
    console.width = max(width, console.width)
    console.print(table)


def markdown_table(rows: Rows) -> str:
    """A table in Markdown; '|' in a cell is escaped."""
    header = list(rows[0])
    cells = [[cell.replace('|', '\\|') for cell in row.values()] for row in rows]
    aligned = ['---', *['---:'] * (len(header) - 1)]
    return '\n'.join(f'| {" | ".join(row)} |' for row in (header, aligned, *cells))


def mean_and_std(values: Sequence[float], spec: str = '.1f') -> str:
    """'1.0 ± 0.1', mean and standard deviation (n - 1 in the denominator); of one value, itself."""
    mean = format(np.mean(values), spec)
    if len(values) == 1:
        return mean
    return f'{mean} ± {format(np.std(values, ddof=1), spec.replace("+", ""))}'
