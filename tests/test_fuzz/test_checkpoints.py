"""Checkpoints that run something when they are read as programs, in many forms: none does here."""

import io
import os
import pickle
import posixpath
import random
import subprocess
import tarfile
import zipfile
from collections import OrderedDict
from contextlib import suppress
from functools import partial

import pytest
import torch

from asvit_mm.checkpoints.reading import read_checkpoint
from asvit_mm.errors import InputError

from ..pickled import Calls

DAMAGED = 300


class Sets:
    """Pickled as an object whose state is set by ``exec``, through a dict's own protocol."""

    def __init__(self, code):
        self.code = code

    def __reduce__(self):
        return (partial, (exec,), None, None, iter([(self.code, {})]))


class Fakes(OrderedDict):
    """A dict that calls when it is built."""

    def __reduce__(self):
        return (eval, (self['code'],))


def programs(ran):
    """What would make the folder ``ran``."""
    code = f'__import__("os").mkdir({ran!r})'
    return {
        'mkdir': Calls(os.mkdir, ran),
        'system': Calls(os.system, f'mkdir {ran}'),
        'eval': Calls(eval, code),
        'exec': Calls(exec, code),
        'subprocess': Calls(subprocess.call, ['mkdir', ran]),
        'partial': Calls(partial(os.mkdir, ran)),
        'nested': Calls(getattr, Calls(__import__, 'os'), 'mkdir'),
        'state': Sets(code),
        'dict': Fakes(code=code),
        'jit': Calls(torch.jit.load, ran),
        'load': Calls(torch.load, ran),
        'path': Calls(posixpath.join, Calls(os.mkdir, ran), 'x'),
    }


PROGRAMS = list(programs('ran'))
PLACES = {
    'whole': lambda odd: odd,
    'weights': lambda odd: {'state_dict': odd},
    'weight': lambda odd: {'state_dict': {'a': odd}},
    'name': lambda odd: {'state_dict': {'a': torch.zeros(1)}, 'meta': {'b': [odd]}},
    'optimizer': lambda odd: {'state_dict': {'a': torch.zeros(1)}, 'optimizer': {'state': odd}},
    'hub': lambda odd: {'state_dict': {'a': torch.zeros(1)}, 'message_hub': {'log_scalars': odd}},
}


def write(path, content, form):
    if form == 'pickle':
        path.write_bytes(pickle.dumps(content))
    elif form == 'old tar':
        with tarfile.open(path, 'w') as file:
            for name in ('storages', 'tensors', 'pickle'):
                data = pickle.dumps(content)
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == 'zip')


@pytest.mark.parametrize('form', ['zip', 'legacy', 'pickle', 'old tar'])
@pytest.mark.parametrize('program', PROGRAMS)
def test_no_program_runs_wherever_it_is(tmp_path, monkeypatch, program, form):
    """12 programs in 6 places, 4 forms and 3 kinds of names."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    ran = tmp_path / 'ran'
    for place, holding in PLACES.items():
        for suffix in ('.pth', '.safetensors', '.bin'):
            path = tmp_path / f'{place}{suffix}'
            write(path, holding(programs(str(ran))[program]), form)
            with pytest.raises(InputError) as error:
                read_checkpoint(path)
            assert '\n' not in str(error.value)
            assert not ran.exists(), (place, suffix)


@pytest.mark.filterwarnings('ignore')
def test_no_program_runs_however_its_bytes_are_changed(tmp_path):
    rng, ran, path = random.Random(0), tmp_path / 'ran', tmp_path / 'x.pth'
    wholes = []
    for form in ('zip', 'legacy', 'pickle'):
        write(path, PLACES['weight'](Calls(os.mkdir, str(ran))), form)
        wholes.append(path.read_bytes())
    for _ in range(DAMAGED):
        wrong = bytearray(rng.choice(wholes))
        for _ in range(rng.randint(1, 4)):
            wrong[rng.randrange(len(wrong))] = rng.randrange(256)
        path.write_bytes(wrong)
        with pytest.raises(InputError) as error:
            read_checkpoint(path)
        assert '\n' not in str(error.value)
        assert not ran.exists()


def test_archives_that_are_no_checkpoints(tmp_path):
    """Of no use, many members, a member that grows, names that climb out."""
    path = tmp_path / 'x.pth'
    for members in (
        {},
        {'data.pkl': b''},
        {'archive/data.pkl': b'\x80\x02.', 'archive/version': b'3'},
        {'archive/data.pkl': b'\x80\x02]q\x00.', 'archive/version': b'3'},
        {'../../ran': b'', 'archive/data.pkl': b'\x80\x02}.', 'archive/version': b'3'},
        {f'archive/data/{i}': b'' for i in range(500)},
    ):
        with zipfile.ZipFile(path, 'w') as file:
            for name, content in members.items():
                file.writestr(name, content)
        with suppress(InputError):  # any other exception fails the test
            read_checkpoint(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['x.pth']
