"""JSON objects read back from a folder, and the first difference between two of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError


def read_object(path: Path, advice: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        advice: what the user should do if there is none, for the error message.

    Raises:
        InputError: the file does not contain a JSON object.
        OSError: it cannot be read.
    """
    return parse_object(path.read_bytes(), str(path), advice)


def parse_object(text: str | bytes, place: str, advice: str) -> dict[str, Any]:
    """The JSON object in ``text``, which was read from ``place``; see :func:`read_object`."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f'{place} cannot be read ({error}): {advice}') from None
    if not isinstance(value, dict):
        raise InputError(f'{place} holds a {type(value).__name__}, not an object: {advice}')
    return value


def first_difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str | None:
    """The first key with different values, and both values, in words; None if there is none.

    Nested keys are dotted, missing keys count as None, and keys are compared in the order of ``mine``.
    """
    there, here = dict(_flat(theirs)), dict(_flat(mine))
    for key in {**here, **there}:
        if there.get(key) != here.get(key):
            return f'{key} is {there.get(key)!r} there and {here.get(key)!r} here'
    return None


def _flat(value: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = enumerate(value)
    else:
        yield prefix, value
    for key, item in items:
        yield from _flat(item, f'{prefix}.{key}' if prefix else str(key))
