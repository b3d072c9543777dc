"""The shipped configs as text, so that written configs hold the same recipes, not old copies."""

import ast
from pathlib import Path

import asvit_mm


def shipped_config(name: str) -> Path:
    """Path of a config of the package, such as ``_base_/datasets/digits_bs64_32.py``.

    An installed package carries them under ``.mim``; in a checkout they lie beside the package.

    Raises:
        FileNotFoundError: the installation has no such config.
    """
    return _shipped(f'configs/{name}')


def shipped_tools() -> Path:
    """The folder of the tools, found as the configs are; of a checkout its own."""
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
    for target, node in reversed(_assignments(text)):
        if target in drop:
            end = node.end_lineno or node.lineno
            while end < len(lines) and not lines[end].strip():
                end += 1
            del lines[node.lineno - 1 : end]
    return '\n'.join(lines).strip() + '\n'


def shipped_assignments(name: str, drop: tuple[str, ...]) -> str:
    """The assignments of a shipped config but those to the names in ``drop``; no comments."""
    text = shipped_config(name).read_text(encoding='utf-8')
    kept = [node for target, node in _assignments(text) if target not in drop]
    return ''.join(f'{ast.get_source_segment(text, node)}\n' for node in kept)


def _assignments(text: str) -> list[tuple[str, ast.Assign]]:
    return [
        (node.targets[0].id, node)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]
