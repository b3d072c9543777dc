"""One HTML page that needs nothing else: what a report is put together from.

The page has neither scripts nor anything that is loaded: its pictures are in it, its style too. Texts that
these functions take are escaped, cells and sections are HTML already.
"""

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..utils.files import atomic_write_text

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


def number(count: int, what: str) -> str:
    """A count of things: '1 network', '2 networks'."""
    return f'{count:,} {what}{"" if count == 1 else "s"}'


def value(value: float | None) -> str:
    """A measured value; a dash where there is none."""
    return '-' if value is None else f'{value:.4g}'


def code(text: str) -> str:
    """Text as it is typed."""
    return f'<code>{escape(text)}</code>'


def link(text: str, name: str) -> str:
    """A link to a file beside the page."""
    return f'<a href="{escape(quote(name))}">{escape(text)}</a>'


def command(words: Sequence[str]) -> str:
    """A command to copy, quoted for the shell."""
    return f'<pre>{escape(shlex.join(words))}</pre>'


def picture(folder: Path, name: str, caption: str) -> str:
    """A PNG file of the folder, put into the page, with a caption that links to it."""
    data = base64.b64encode((folder / name).read_bytes()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
        f'<figcaption>{escape(caption)} ({link(name, name)})</figcaption></figure>'
    )


def table(
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


def write_page(folder: Path, title: str, sections: Mapping[str, tuple[str, str]]) -> Path:
    """Write report.html: a section a key, with its title and content, and links to all of them."""
    contents = ''.join(f'<a href="#{key}">{name}</a> ' for key, (name, _) in sections.items())
    body = '\n'.join(
        f'<section id="{key}"><h2>{name}</h2>{text}</section>'
        for key, (name, text) in sections.items()
    )
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><style>{STYLE}</style></head>\n'
        f'<body><h1>{escape(title)}</h1><nav>{contents}</nav>\n{body}\n</body></html>\n'
    )
    return atomic_write_text(folder / 'report.html', text)
