"""The one error that users see: what is wrong and what to do, without a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something that the user gave is wrong; the message says what and what to do instead."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an :class:`InputError` into one line on stderr and exit status 2, Ctrl-C into 130.

    Where a :class:`KeyboardInterrupt` has a message (how to go on), that is the line.

    Every other exception keeps its traceback: it is a defect, not a user's mistake.
    """
    try:
        yield
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        print(str(stop) or 'interrupted', file=sys.stderr)
        raise SystemExit(130) from None
