"""Errors that users see as one line, without a traceback."""

import errno
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

# How long a process that fails waits for the others to fail too.
_PATIENCE = timedelta(seconds=5)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What makes a path that a user gives impossible; that a file is missing would be said where it is needed.
_WRONG_PATH = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


class InputError(ValueError):
    """Invalid input from the user; the message says what is wrong and what to do."""


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
    """Turn an :class:`InputError`, a full disk or a path that cannot be used into a line and exit status 2.

    Ctrl-C becomes status 130, with the message of the :class:`KeyboardInterrupt` (how to resume) if there is
    one. Of the processes of a distributed job that fail alike, rank 0 prints; one that fails alone, or
    otherwise, names its rank. All other exceptions keep their traceback: they are defects, not mistakes of
    the user.
    """
    logging.raiseExceptions = (
        False  # a log that cannot be written, on a full disk, prints no traceback
    )
    try:
        yield
    except InputError as error:
        _print_error(str(error))
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno in _WRONG_PATH and error.filename:
            name = str(error.filename)
            shown = name if len(name) < 200 else f'{name[:200]}...'
            _print_error(f'{shown!r} cannot be used ({error.strerror}): give another path')
            raise SystemExit(2) from None
        if not is_full(error):
            raise
        where = f' to {error.filename!r}' if error.filename else ''
        _print_error(
            f'cannot write{where} ({error.strerror}): make room and give the command again, with --resume if '
            'it has one'
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        if _is_first():
            print(str(stop) or 'interrupted', file=sys.stderr)
        raise SystemExit(130) from None


def _is_first() -> bool:
    return os.environ.get('RANK', '0') == '0'


def _print_error(text: str) -> None:
    """Print ``error: text``, with the rank where not all processes of a distributed job say the same."""
    rank = os.environ.get('RANK', '0')
    alike = _all_say(text, rank) if os.environ.get('WORLD_SIZE', '1') != '1' else True
    if alike is False:
        print(f'error: rank {rank}: {text}', file=sys.stderr)
    elif alike and _is_first():
        print(f'error: {text}', file=sys.stderr)


def _all_say(text: str, rank: str) -> bool | None:
    """Whether all processes fail alike; None: another process has already printed.

    They tell each other through the launcher's key-value store; without one, as before the processes of
    slurm have met, it is a mistake in what all of them were given. Where it has gone, as with rank 0, each
    speaks for itself.
    """
    from torch.distributed import TCPStore

    attempt = f'asvit_mm/errors/{os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")}'
    # Each keeps a traceback of its own.
    said = re.sub(r' \(traceback: .*', '', text)
    try:
        host, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
        # TCPStore itself would wait long for nobody, and print a stack of C++ frames.
        socket.create_connection((host, port), 1).close()
        store = TCPStore(host, port, None, False, timeout=_PATIENCE, wait_for_workers=False)
        if store.check([f'{attempt}/printed']):
            return None
        store.set(f'{attempt}/{rank}', said)
        keys = [f'{attempt}/{one}' for one in range(int(os.environ['WORLD_SIZE']))]
        try:
            store.wait(keys, _PATIENCE)
            alike = all(store.get(key).decode() == said for key in keys)
        except RuntimeError:
            alike = False
        store.set(f'{attempt}/printed', '1')
    except (KeyError, ValueError):
        return True
    except (RuntimeError, OSError, OverflowError):
        return rank == '0'
    return alike
