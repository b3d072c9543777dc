"""Imports point one way: a folder of the package imports only those that stand before it."""

import ast
from pathlib import Path

import asvit_mm

PACKAGE = Path(asvit_mm.__file__).parent
ORDER = (
    *('version', 'errors', 'registry', 'utils', 'checkpoints'),
    *('arch', 'tokens', 'token_schedule', 'cost', 'ops', 'models', 'measures', 'nas'),
    *('engine', 'data', 'config_writer', 'zoo', 'report', 'export', 'runs', 'api'),
    *('preprocessing', 'timm', 'hub', 'detectron2', 'analysis'),
)


def imported(path):
    """The folders and top modules of the package that a file imports, the type checker's excepted."""
    inside = path.relative_to(PACKAGE.parent).parent.parts
    tree = ast.parse(path.read_text(encoding='utf-8'))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name.split('.') for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(inside[: len(inside) - node.level + 1]) if node.level else []
            module = base + (node.module.split('.') if node.module else [])
            names = [module] if len(module) > 1 else [[*module, a.name] for a in node.names]
        else:
            continue
        yield from (name[1] for name in names if name[0] == 'asvit_mm' and len(name) > 1)


def test_imports_point_one_way():
    for path in PACKAGE.rglob('*.py'):
        inside = path.relative_to(PACKAGE).with_suffix('').parts
        if inside[0] in ('__init__', '.mim'):  # the package itself hands out api's names
            continue
        for name in imported(path):
            if name in ORDER and name != inside[0]:
                place = f'{path.relative_to(PACKAGE)} imports {name}'
                assert ORDER.index(name) < ORDER.index(inside[0]), place


def test_every_folder_has_its_place():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or path.is_dir()}
    assert found - {'__init__', '__pycache__', '.mim', 'weights', 'py'} - set(ORDER) == set()
