"""The shipped configs as text: written configs copy their recipes from there."""

import ast
from pathlib import Path

import asvit_mm


def shipped_config(name: str) -> Path:
    """Path of a config of the package, such as ``_base_/datasets/digits_bs64_32.py``.

    An installed package has them under ``.mim``, a checkout beside the package.

    Raises:
        FileNotFoundError: the installation has no such config.
    """
    return _shipped(f'configs/{name}')


def shipped_tools() -> Path:
    """The folder of the tools; in a checkout the checkout's own."""
    return _shipped('tools/train.py').resolve().parent


def _shipped(name: str) -> Path:
    package = Path(asvit_mm.__file__).parent
    for folder in (package / '.mim', package.parent):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f'this installation of asvit_mm has no {name}: install it again')


def shipped_text(name: str, drop: tuple[str, ...] = ('_base_', 'custom_hooks')) -> str:
    """Text of a shipped config with its comments, without the assignments to names in ``drop``."""
    text = shipped_config(name).read_text(encoding='utf-8')
    lines = text.splitlines()
    for node in reversed(ast.parse(text).body):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)]) if target in drop:
                del lines[node.lineno - 1 : node.end_lineno]
    return '\n'.join(lines).strip()
