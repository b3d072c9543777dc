"""The one error that users see: what is wrong and what to do, without a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something that the user gave is wrong; the message says what and what to do instead."""


class ShareError(InputError):
    """One that only the process meets whose share of the work it is in: nobody else would say so."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an :class:`InputError` into one line on stderr and exit status 2, Ctrl-C into 130.

    Where a :class:`KeyboardInterrupt` has a message (how to go on), that is the line. Of the processes of
    a launcher only the first one prints what all of them find; a :class:`ShareError` is printed by its own.

    Every other exception keeps its traceback: it is a defect, not a user's mistake.
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
