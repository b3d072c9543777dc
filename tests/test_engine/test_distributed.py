import pytest
import torch

from asvit_mm.engine.distributed import Share, find_share, wait_for_all
from asvit_mm.errors import InputError

VARIABLES = dict(RANK='1', WORLD_SIZE='3', LOCAL_RANK='1', MASTER_ADDR='localhost', MASTER_PORT='1')


def test_every_item_is_one_processs():
    shares = [Share(rank, 3) for rank in range(3)]
    assert sorted(i for share in shares for i in share.of(8)) == list(range(8))
    assert list(Share().of(4)) == [0, 1, 2, 3]
    assert Share(2, 3, 2).device(torch.device('cpu')) == torch.device('cpu')


def test_the_environment_of_the_launcher(monkeypatch):
    assert find_share('none') == Share()
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert find_share('pytorch') == Share(1, 3, 1)
    monkeypatch.setenv('WORLD_SIZE', 'many')
    with pytest.raises(InputError, match='WORLD_SIZE=many'):
        find_share('pytorch')
    monkeypatch.delenv('MASTER_PORT')
    with pytest.raises(InputError, match='without MASTER_PORT'):
        find_share('pytorch')


def test_one_process_waits_for_nobody():
    wait_for_all(Share(), 'here')
