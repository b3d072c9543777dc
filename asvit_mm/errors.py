"""The one error that users see: what is wrong and what to do, without a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something that the user gave is wrong; the message says what and what to do instead."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an :class:`InputError` into one line on stderr and exit status 2, Ctrl-C into 130.

    Where a :class:`KeyboardInterrupt` has a message (how to go on), that is the line. Of the processes of
    a launcher only the first one prints: all of them find the same.

    Every other exception keeps its traceback: it is a defect, not a user's mistake.
    """
    try:
        yield
    except InputError as error:
        _print_once(f'error: {error}')
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        _print_once(str(stop) or 'interrupted')
        raise SystemExit(130) from None


def _print_once(line: str) -> None:
    if os.environ.get('RANK', '0') == '0':
        print(line, file=sys.stderr)
