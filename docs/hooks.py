"""MkDocs hooks that make one text serve both views, the repository's and the site's.

A link such as ``../configs/asvit_coco.py`` leads to the file where the repository is read, and in the site
to a page that shows it, or to a copy, under repository/. A folder that a report links to has a page that
lists it.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DOCS, ELSEWHERE = 'docs/', 'repository/'
LINK = re.compile(r'(?<=\]\()[^)\s#:]+(?=[)#])')
# What is shown as code.
LANGUAGES = {'.py': 'python', '.sh': 'bash', '.yml': 'yaml', '.json': 'json', '.txt': 'text'}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for every file that pages link to, and for those that these link to."""
    root = Path(config.config_file_path).parent
    unread = [file for file in files if file.is_documentation_page()]
    while unread:
        page = unread.pop()
        for path in filter(None, _linked(page.content_string, page.src_uri, root).values()):
            if not path.startswith(DOCS) and files.get_file_from_path(_place(path)) is None:
                added = _added(config, path, root)
                files.append(added)
                if added.is_documentation_page():
                    unread.append(added)
    for folder in sorted(_linked_folders(root / DOCS)):
        uri = folder.relative_to(root / DOCS).as_posix()
        names = ''.join(f'- [{file.name}]({file.name})\n' for file in sorted(folder.iterdir()))
        files.append(File.generated(config, f'{uri}/index.md', content=f'# {uri}\n\n{names}'))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Turn links to files into links to where the site has them."""
    uri = page.file.src_uri
    linked = _linked(markdown, uri, Path(config.config_file_path).parent)

    def target(match: re.Match[str]) -> str:
        path = linked[match[0]]
        return posixpath.relpath(_place(path), posixpath.dirname(uri) or '.') if path else match[0]

    return LINK.sub(target, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Take out the backslash of a pipe in a table's code, as GitHub does."""
    return re.sub(r'<td.*?</td>', lambda cell: cell[0].replace(r'\|', '|'), html, flags=re.DOTALL)


def _linked_folders(docs: Path) -> set[Path]:
    """The folders that HTML files among the docs link to."""
    return {
        page.parent / link
        for page in docs.rglob('*.html')
        for link in re.findall(r'href="([^":#]+/)"', page.read_text(encoding='utf-8'))
    }


def _linked(markdown: str, uri: str, root: Path) -> dict[str, str | None]:
    """The links of a page and the repository's files that they name; None: no file, which MkDocs judges."""
    folder = posixpath.dirname(_origin(uri))

    def resolved() -> Iterator[tuple[str, str | None]]:
        for link in LINK.findall(markdown):
            path = posixpath.normpath(posixpath.join(folder, unquote(link)))
            yield link, path if not path.startswith('..') and (root / path).is_file() else None

    return dict(resolved())


def _origin(uri: str) -> str:
    """The path in the repository of the page at ``uri`` of the site."""
    return uri.removeprefix(ELSEWHERE) if uri.startswith(ELSEWHERE) else DOCS + uri


def _place(path: str) -> str:
    """Where the site has the file at ``path`` of the repository."""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    return ELSEWHERE + path + ('.md' if Path(path).suffix in LANGUAGES else '')


def _added(config: MkDocsConfig, path: str, root: Path) -> File:
    """A file of the site: source code as a page that shows it, Markdown and all else as it is."""
    file = root / path
    language = LANGUAGES.get(file.suffix)
    if language is None:
        return File.generated(config, _place(path), abs_src_path=str(file))
    text = f'# {file.name}\n\n````{language}\n{file.read_text(encoding="utf-8")}````\n'
    return File.generated(config, _place(path), content=text)
