"""The values of ``--cfg-options KEY=VALUE``.

MMEngine's own parser splits every value at its commas, drops blanks, and does not end on some brackets. This
one reads what it reads, and leaves alone what is no list: architectures, schedules, paths.
"""

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InputError

MAX_DEPTH, MAX_SHOWN = 20, 100
_CLOSING = {'(': ')', '[': ']', '{': '}'}
_WORDS = {'true': True, 'false': False, 'None': None}


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Values by dotted keys from ``KEY=VALUE`` words.

    A value is a number, True, False, None, a word, or one of

    - ``a,b``, ``[a,b]``, ``(a,b)``: a list, a list, a tuple, of values, nested if need be;
    - ``{'a': 1}`` or ``dict(a=1)``: a dict of Python literals;
    - ``'a,b'``, in quotation marks of its own: this string;
    - an architecture ``8,2,3|...`` or a schedule ``16@0.25,8@0.5``: this string, for its ``|`` or ``@``.

    Blanks inside words stay.

    Raises:
        InputError: a word without ``=``, brackets that do not match, or a dict that is none.
    """
    options = {}
    for pair in pairs or ():
        key, equals, value = pair.partition('=')
        if not equals or not all(key.split('.')):
            raise InputError(f'--cfg-options {pair!r} is not KEY=VALUE')
        try:
            options[key] = _read(value)
        except (ValueError, RecursionError, MemoryError) as error:
            shown = pair if len(pair) <= MAX_SHOWN else f'{pair[:MAX_SHOWN]}...'
            raise InputError(
                f'--cfg-options {shown!r} cannot be read ({error}): put a value that is a string into '
                """quotation marks of its own, KEY="'VALUE'\""""
            ) from None
    return options


def _read(text: str, depth: int = 0) -> Any:
    text = text.strip()
    if depth > MAX_DEPTH:
        raise ValueError('brackets are nested too deep')
    if text[:1] in ('"', "'") and text.find(text[0], 1) == len(text) - 1:
        return _literal(text)
    if text.startswith('{') or (text.startswith('dict(') and text.endswith(')')):
        return _literal(text)
    closing = _CLOSING.get(text[:1])
    if closing is not None:
        if _end(text) != len(text) - 1:
            raise ValueError(f'{text[0]!r} is not closed at the end')
        items = [_read(item, depth + 1) for item in _split(text[1:-1])]
        return tuple(items) if closing == ')' else items
    if ',' in text and not set('|@') & set(text):
        items = list(_split(text))
        if len(items) > 1 or text.endswith(','):
            return [_read(item, depth + 1) for item in items]
    return _scalar(text)


def _split(text: str) -> Iterator[str]:
    """The parts between commas that are in no brackets or quotation marks; a comma at the end adds none."""
    start = i = 0
    while i < len(text):
        if text[i] == ',':
            yield text[start:i]
            start = i + 1
        i = 1 + (_end(text, i) if text[i] in _CLOSING or _opens_quote(text, i) else i)
    if text[start:].strip():
        yield text[start:]


def _opens_quote(text: str, i: int) -> bool:
    """Whether a quotation mark begins a value; one within a word is an apostrophe."""
    return text[i] in '"\'' and text[:i].rstrip()[-1:] in ('', *',:([{')


def _end(text: str, start: int = 0) -> int:
    """Index of the bracket or quotation mark that closes the one at ``start``."""
    expected: list[str] = []
    i = start
    while i < len(text):
        char = text[i]
        if char in _CLOSING:
            expected.append(_CLOSING[char])
        elif _opens_quote(text, i):
            i = text.find(char, i + 1)
            if i < 0:
                break
        elif char in _CLOSING.values() and (not expected or expected.pop() != char):
            break
        if not expected:
            return i
        i += 1
    raise ValueError('brackets or quotation marks do not match')


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return _WORDS.get(text, _WORDS.get(text.lower(), text))


def _literal(text: str) -> Any:
    """A string or dict of Python literals; dicts may be written ``dict(a=1)`` too."""
    try:
        value = ast.literal_eval(_PlainDicts().visit(ast.parse(text, mode='eval')))
    except (ValueError, TypeError, SyntaxError):
        value = None
    if not isinstance(value, dict | str):
        raise ValueError('no dict or string of Python literals')
    return value


class _PlainDicts(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        names = [keyword.arg for keyword in node.keywords]
        if (
            not isinstance(node.func, ast.Name)
            or node.func.id != 'dict'
            or node.args
            or None in names
        ):
            raise ValueError
        keys: list[ast.expr | None] = [ast.Constant(name) for name in names]
        return ast.Dict(keys, [self.visit(keyword.value) for keyword in node.keywords])
