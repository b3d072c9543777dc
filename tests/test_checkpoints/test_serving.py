"""The command that serves the zoo on this machine, as users type it."""

import os
import re
import signal
import socket
import subprocess
import sys
from functools import partial
from urllib.request import urlopen

import pytest

from asvit_mm.checkpoints.hosting import SHIPPED, WEIGHTS_URL
from asvit_mm.checkpoints.serving import make_server
from asvit_mm.errors import InputError


def test_the_weights_of_the_package_until_ctrl_c():
    command = [sys.executable, '-m', 'asvit_mm.checkpoints.serving', '--port', '0']
    # Where the tests run in the background, Ctrl-C is ignored, and so by their children.
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, **pipes, env=os.environ, preexec_fn=heeded)
    try:
        line = process.stdout.readline()
        address = re.match(r'http://127\.0\.0\.1:\d+', line)[0]
        for path in SHIPPED.iterdir():
            assert path.name in line
            with urlopen(f'{address}/{path.name}') as response:
                assert response.read() == path.read_bytes()
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == 'stopped'


def test_it_listens_where_the_metafiles_say(tmp_path):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f'port {port} cannot be opened'):
            make_server(tmp_path, None, f'http://127.0.0.1:{port}')
    with make_server(tmp_path, None, f'http://localhost:{port}') as server:
        assert server.server_port == port
    assert WEIGHTS_URL.startswith('http://127.0.0.1:')


@pytest.mark.parametrize(
    ('folder', 'port', 'address', 'words'),
    [
        ('lost', 0, 'http://127.0.0.1:8000', 'does not exist'),
        ('.', None, 'https://example.invalid/weights', 'not this machine'),
        ('.', 70_000, 'http://127.0.0.1:8000', 'port 70000 cannot be opened'),
    ],
)
def test_refusals(folder, port, address, words, tmp_path):
    with pytest.raises(InputError, match=words) as error:
        make_server(tmp_path / folder, port, address)
    assert '\n' not in str(error.value)
