"""Serve the weights that come with the package where the metafiles say they are, on this machine.

    python -m asvit_mm.checkpoints.serving

Then ``mim download asvit_mm --config NAME`` finds them, until Ctrl-C.
"""

from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import InputError
from ..utils.command_line import make_tool, option

LOOPBACK = ('127.0.0.1', 'localhost', '::1')


@dataclass(frozen=True)
class ServeSettings:
    """What is served, and where."""

    folder: Path | None = None
    """of the files (default: the weights that come with the package)"""
    port: int | None = option(default=None, at_least=0)
    """of 127.0.0.1; 0: any that is free (default: that of the published addresses)"""


def make_server(folder: Path, port: int | None, address: str) -> ThreadingHTTPServer:
    """A server of a folder on the loopback interface, which listens already.

    Args:
        port: of 127.0.0.1; None: that of ``address``.
        address: of the published files.

    Raises:
        InputError: no such folder, an address on another machine, or a port that is taken.
    """
    if not folder.is_dir():
        raise InputError(f'--folder {str(folder)!r} does not exist: give a folder of weights')
    parts = urlsplit(address)
    if port is None and (parts.hostname not in LOOPBACK or parts.path.strip('/')):
        raise InputError(
            f'the weights are published at {address}, which is not this machine: give --port'
        )
    port = (parts.port or 80) if port is None else port
    try:
        handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
        return ThreadingHTTPServer(('127.0.0.1', port), handler)
    except (OSError, OverflowError) as error:
        raise InputError(
            f'port {port} cannot be opened ({getattr(error, "strerror", None) or error}): stop what listens '
            'there, or give another --port'
        ) from None


def serve(settings: ServeSettings) -> None:
    """Serve until Ctrl-C."""
    from .hosting import SHIPPED, WEIGHTS_URL  # imports torch

    folder = settings.folder or SHIPPED
    with make_server(folder, settings.port, WEIGHTS_URL) as server:
        names = ', '.join(sorted(path.name for path in folder.iterdir()))
        print(f'http://127.0.0.1:{server.server_port} has {names}; Ctrl-C stops', flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            raise KeyboardInterrupt('stopped') from None


_, main = make_tool(ServeSettings, serve, __doc__)

if __name__ == '__main__':
    main()
