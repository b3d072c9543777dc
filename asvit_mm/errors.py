"""Errors that users see as one line, without a traceback."""

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class InputError(ValueError):
    """Invalid input from the user; the message says what is wrong and what to do."""


class ShareError(InputError):
    """Invalid input that a single process of several encounters in its share of the work."""


def one_line(error: BaseException) -> str:
    """Type and message of an error in one line.

    A worker of a data loader sends its whole traceback for a message: of it, the last line.
    """
    text = str(error).strip()
    if re.match(r'Caught \w+ in \w+ worker', text):
        return ' '.join(text.splitlines()[-1].split()).removeprefix('asvit_mm.errors.')
    return f'{type(error).__name__}: {" ".join(text.split())}'


def is_full(error: BaseException) -> bool:
    """Whether an error says that a file cannot grow: a full or read-only disk, or a quota."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an :class:`InputError` or a full disk into one line on stderr and exit status 2, Ctrl-C into 130.

    The message of a :class:`KeyboardInterrupt` (how to resume) is printed if there is one. In a distributed
    job only rank 0 prints, except for a :class:`ShareError`. All other exceptions keep their traceback: they
    are defects, not mistakes of the user.
    """
    logging.raiseExceptions = (
        False  # a log that cannot be written, on a full disk, prints no traceback
    )
    try:
        yield
    except InputError as error:
        if _is_first() or isinstance(error, ShareError):
            print(f'error: {error}', file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if not is_full(error):
            raise
        where = f' to {error.filename!r}' if error.filename else ''
        print(
            f'error: cannot write{where} ({error.strerror}): make room and give the command again, with '
            '--resume if it has one',
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        if _is_first():
            print(str(stop) or 'interrupted', file=sys.stderr)
        raise SystemExit(130) from None


def _is_first() -> bool:
    return os.environ.get('RANK', '0') == '0'
