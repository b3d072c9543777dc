"""A real HTTP server on the loopback that serves a folder."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar


class Handler(SimpleHTTPRequestHandler):
    """Without a line on stderr for every request; notes which files were asked for."""

    requests: ClassVar[list[str]] = []

    def log_message(self, *args: object) -> None:
        Handler.requests.append(self.path)


@contextmanager
def running(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server until the block ends."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def served(folder: Path) -> AbstractContextManager[str]:
    """The address at which the folder is served until the block ends."""
    return running(partial(Handler, directory=str(folder)))
