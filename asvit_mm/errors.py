"""Errors that users see as one line, without a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Invalid input from the user; the message says what is wrong and what to do."""


class ShareError(InputError):
    """Invalid input that a single process of several encounters in its share of the work."""


def one_line(error: Exception) -> str:
    """Type and message of an error in one line."""
    return f'{type(error).__name__}: {" ".join(str(error).split())}'


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an :class:`InputError` into one line on stderr and exit status 2, Ctrl-C into status 130.

    The message of a :class:`KeyboardInterrupt` (how to resume) is printed if there is one. In a distributed
    job only rank 0 prints, except for a :class:`ShareError`. All other exceptions keep their traceback: they
    are defects, not mistakes of the user.
    """
    try:
        yield
    except InputError as error:
        if _is_first() or isinstance(error, ShareError):
            print(f'error: {error}', file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        if _is_first():
            print(str(stop) or 'interrupted', file=sys.stderr)
        raise SystemExit(130) from None


def _is_first() -> bool:
    return os.environ.get('RANK', '0') == '0'
