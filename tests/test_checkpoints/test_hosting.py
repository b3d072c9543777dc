"""Published weights: from the package, or downloaded over HTTP and held to the SHA-256 in their name."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file
from torch import nn

from asvit_mm.checkpoints import hosting
from asvit_mm.checkpoints.reading import read_checkpoint
from asvit_mm.errors import InputError

from ..serving import Handler, served


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A published file in a folder of its own, of a linear layer."""
    folder = tmp_path / 'host'
    folder.mkdir()
    torch.manual_seed(0)
    path = folder / 'weights.pth'
    torch.save({'meta': {}, 'state_dict': nn.Linear(40, 30).state_dict()}, path)
    return path.rename(folder / f'asvit-tiny_b1_x_20260102-{hosting.sha256(path)[:8]}.pth')


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    Handler.requests.clear()
    return tmp_path / 'torch' / 'hub' / 'checkpoints'


def damage(path: Path, cut: bool) -> None:
    """Half of it, or all of it with one weight's bits turned over."""
    data = bytearray(path.read_bytes())
    if cut:
        data = data[: len(data) // 2]
    else:
        data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def refusal(path: str) -> str:
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    assert '\n' not in str(error.value)
    return str(error.value)


@contextmanager
def ours(folder: Path) -> Iterator[str]:
    """Serve a folder as the host of published weights."""
    with served(folder) as address, pytest.MonkeyPatch.context() as patch:
        patch.setattr(hosting, 'WEIGHTS_URL', address)
        yield address


def test_a_download_is_checked_kept_and_fetched_once(published, cache):
    with ours(published.parent) as address:
        for _ in range(2):
            found = hosting.local_path(f'{address}/{published.name}')
            assert Path(found) == cache / published.name
            assert Path(found).read_bytes() == published.read_bytes()
        assert Handler.requests == [f'/{published.name}']
    assert read_checkpoint(found)['state_dict']['weight'].shape == (30, 40)


@pytest.mark.parametrize('cut', [True, False])
def test_a_damaged_download_is_refused_and_leaves_nothing(published, cache, cut):
    damage(published, cut)
    with ours(published.parent) as address:
        message = refusal(f'{address}/{published.name}')
    assert 'came truncated or corrupted' in message
    assert [p for p in cache.iterdir() if p.suffix != '.lock'] == []


@pytest.mark.parametrize('cut', [True, False])
def test_a_damaged_copy_in_the_cache_is_fetched_again(published, cache, cut):
    with ours(published.parent) as address:
        copy = Path(hosting.local_path(f'{address}/{published.name}'))
        damage(copy, cut)
        again = hosting.local_path(f'{address}/{published.name}')
        assert Path(again).read_bytes() == published.read_bytes()


@pytest.mark.parametrize('cut', [True, False])
def test_a_damaged_file_is_refused(published, cut):
    damage(published, cut)
    assert 'truncated or corrupted (its SHA-256 is not the one' in refusal(str(published))


def test_only_names_that_are_ours_are_held_to_their_hash(published):
    """Other projects' files have such names, too, and not all of them the hash of what is served."""
    other = published.with_name('mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth')
    alike = published.with_name('their-asvit_b1_x_20200205-d4b0c5d6.pth')
    for path in (other, alike):
        shutil.copy(published, path)
    with served(published.parent) as address:
        for path in (str(other), f'{address}/{other.name}', f'{address}/{alike.name}'):
            assert 'weight' in read_checkpoint(path)['state_dict']


def test_what_the_user_put_into_the_cache_is_found_and_never_removed(published, cache):
    """By the name that torch and MMEngine would give it; there need be no such host."""
    by_hand = cache / 'resnet50_8xb32_in1k_20210831-ea4938fa.pth'
    cache.mkdir(parents=True)
    shutil.copy(published, by_hand)
    address = f'https://weights.invalid/{by_hand.name}'
    assert hosting.local_path(address) == str(by_hand)
    assert 'weight' in read_checkpoint(f'{address}?download=1')['state_dict']
    damage(by_hand, cut=True)
    assert 'truncated' in refusal(address)
    assert by_hand.exists()


def test_a_cache_that_has_the_file_is_left_alone(published, cache):
    """It may be one that many share and none may write to: nothing is locked there."""
    cache.mkdir(parents=True)
    shutil.copy(published, cache)
    for address in ('http://127.0.0.1:9', 'https://weights.invalid/x'):
        assert hosting.local_path(f'{address}/{published.name}') == str(cache / published.name)
    assert [path.name for path in cache.iterdir()] == [published.name]


def test_a_server_that_says_nothing_and_a_lock_that_is_held(cache, monkeypatch):
    monkeypatch.setattr(hosting, 'TIMEOUT', 0.2)
    monkeypatch.setattr(hosting, 'LOCK_TIMEOUT', 0.2)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        address = f'http://127.0.0.1:{silent.getsockname()[1]}/x.pth'
        assert 'cannot be fetched (timed out)' in refusal(address)
        (lock,) = cache.iterdir()
        with FileLock(lock):
            assert 'cannot be fetched (The file lock' in refusal(address)
        monkeypatch.setattr(hosting, 'LOCK_TIMEOUT', 30)
        # Half an answer, and then nothing.
        thread = threading.Thread(target=half_an_answer, args=[silent])
        thread.start()
        assert 'cannot be fetched (timed out)' in refusal(address)
        thread.join()
    assert [path for path in cache.iterdir() if path != lock] == []


def half_an_answer(server: socket.socket) -> None:
    for _ in range(2):  # the first one that called has hung up
        connection, _address = server.accept()
        with suppress(OSError):
            connection.sendall(b'HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nhalf')
    time.sleep(0.5)
    connection.close()


def test_files_of_one_name_at_two_addresses_are_two_files(tmp_path, cache):
    for part in ('a', 'b'):
        (tmp_path / part).mkdir()
        torch.save({'state_dict': {part: torch.zeros(1)}}, tmp_path / part / 'epoch_1.pth')
    with served(tmp_path) as address:
        for part in ('a', 'b'):
            assert part in read_checkpoint(f'{address}/{part}/epoch_1.pth')['state_dict']


def test_what_cannot_be_read_is_fetched_again(tmp_path, cache):
    path = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': {'a': torch.zeros(100)}}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    with served(tmp_path) as address:
        assert 'truncated or not a checkpoint' in refusal(f'{address}/epoch_1.pth')
        path.write_bytes(whole)
        assert 'a' in read_checkpoint(f'{address}/epoch_1.pth')['state_dict']


def test_a_name_without_a_hash_says_nothing(published, tmp_path):
    damage(published, cut=False)
    other = tmp_path / 'epoch_20260102-0123456g.pth'
    shutil.copy(published, other)
    hosting.check_whole(other)
    with pytest.raises(InputError):
        hosting.check_whole(published)


def test_what_comes_with_the_package_is_not_fetched(published, cache, monkeypatch, tmp_path):
    shipped = tmp_path / 'shipped'
    shutil.copytree(published.parent, shipped)
    monkeypatch.setattr(hosting, 'SHIPPED', shipped)
    address = f'{hosting.WEIGHTS_URL}/{published.name}'
    assert hosting.local_path(address) == str(shipped / published.name)
    loaded = read_checkpoint(address)
    assert loaded['state_dict'].keys() == {'weight', 'bias'}
    # Another host's file of that name is another file.
    with pytest.raises(InputError, match='cannot be fetched'):
        hosting.local_path(f'http://127.0.0.1:9/{published.name}')


def test_shipped_weights_are_checked_too(published, tmp_path, monkeypatch):
    monkeypatch.setattr(hosting, 'SHIPPED', published.parent)
    damage(published, cut=False)
    with pytest.raises(InputError, match='truncated or corrupted'):
        hosting.local_path(f'{hosting.WEIGHTS_URL}/{published.name}')


def test_addresses_that_lead_nowhere(cache, tmp_path, monkeypatch):
    with served(tmp_path) as address:
        assert 'cannot be fetched' in refusal(f'{address}/absent.pth')
    assert 'cannot be fetched' in refusal(f'{address}/absent.pth')
    assert 'cannot be fetched' in refusal('HTTP://127.0.0.1:9/a b.pth')
    assert 'cannot be fetched' in refusal(f'{address}/{"x" * 300}.pth')
    assert 'does not exist' in refusal(str(tmp_path / 'absent.safetensors'))
    (tmp_path / 'file').touch()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'file'))
    assert 'cannot be fetched' in refusal(f'{address}/absent.pth')


def test_safetensors_here_and_behind_an_address(tmp_path, cache):
    weights = nn.Linear(3, 2).state_dict()
    path = tmp_path / 'x.safetensors'
    save_file(weights, path)
    with served(tmp_path) as address:
        for name in (str(path), f'{address}/x.safetensors'):
            torch.testing.assert_close(dict(weights), read_checkpoint(name)['state_dict'])
    path.write_bytes(path.read_bytes()[:40])
    assert 'truncated or not a checkpoint' in refusal(str(path))


def test_the_shipped_weights_are_whole_and_few():
    files = sorted(hosting.SHIPPED.iterdir())
    assert files
    for path in files:
        assert hosting.PUBLISHED.fullmatch(path.name)
        hosting.check_whole(path)
    assert sum(path.stat().st_size for path in files) <= 20e6
