"""A real HTTP server on the loopback that serves a folder."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar


class Handler(SimpleHTTPRequestHandler):
    """Without a line on stderr for every request; notes which files were asked for."""

    requests: ClassVar[list[str]] = []

    def log_message(self, *args: object) -> None:
        Handler.requests.append(self.path)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which the folder is served until the block ends."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}'
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
