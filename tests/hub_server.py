"""As much of the Hugging Face Hub as huggingface_hub asks to download a file, on the loopback."""

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from .serving import running

FILE = re.compile(r'/([\w.-]+/[\w.-]+)/resolve/[^/]+/([\w./-]+)')
MODEL = re.compile(r'/api/models/([\w.-]+/[\w.-]+)(?:/.*)?')
COMMIT = '0' * 40


def served_hub(repositories: Mapping[str, Path]) -> AbstractContextManager[str]:
    """The address of a server that has these folders as repositories, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = self.path.partition('?')[0]
            if (match := FILE.fullmatch(path)) and match[1] in repositories:
                file = repositories[match[1]] / match[2]
                if file.is_file():
                    self.send(200, file.read_bytes())
                else:
                    self.send(404, b'', {'X-Error-Code': 'EntryNotFound'})
            elif (match := MODEL.fullmatch(path)) and match[1] in repositories:
                files = [{'rfilename': f.name} for f in sorted(repositories[match[1]].iterdir())]
                content = {'id': match[1], 'modelId': match[1], 'sha': COMMIT, 'siblings': files}
                listed = [] if path.rstrip('/') != f'/api/models/{match[1]}' else content
                self.send(200, json.dumps(listed).encode())
            else:
                self.send(404, b'', {'X-Error-Code': 'RepoNotFound'})

        def send(self, status: int, data: bytes, headers: Mapping[str, str] = {}) -> None:
            self.send_response(status)
            etag = hashlib.sha256(data).hexdigest()
            own = {'ETag': f'"{etag}"', 'X-Repo-Commit': COMMIT, 'Content-Length': str(len(data))}
            for key, value in {**own, **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != 'HEAD':
                self.wfile.write(data)

    return running(Handler)
