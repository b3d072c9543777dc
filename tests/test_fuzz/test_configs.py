"""300 configs with a mistake, with fixed seeds: each trains, or is refused in one line."""

import copy
import random

import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from asvit_mm.config_writer.text import assignments

from ..test_checkpoints.test_doors import CONFIG
from ..test_tools.runs import Here, write_images

CHUNKS, MUTANTS = 30, 10
# No large numbers: a run of 10^9 epochs would be right, and long.
VALUES = (None, -1, 0, 1, 2.5, True, '', 'a', [], {}, [1, 2], {'type': 'a'}, {'a': 1}, float('nan'))


def places(value):
    """The containers in a config, and the keys that they have."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield value, key
        if isinstance(item, dict | list):
            yield from places(item)


def misspelt(rng, word):
    at = rng.randrange(len(word))
    before, char, after = word[:at], word[at], word[at + 1 :]
    return before + rng.choice(['', f'x{char}', char.swapcase()]) + after


def mutant(rng, config):
    """``config`` with one key or value misspelt, removed or replaced."""
    config = copy.deepcopy(config)
    owner, key = rng.choice(list(places(config)))
    value = owner[key]
    kind = rng.choice(['key', 'value', 'replaced', 'removed'])
    if kind == 'key' and isinstance(owner, dict):
        owner[misspelt(rng, key) or 'x'] = owner.pop(key)
    elif kind == 'value' and isinstance(value, str) and value:
        owner[key] = misspelt(rng, value)
    elif kind == 'removed':
        del owner[key]
    else:
        owner[key] = rng.choice(VALUES)
    return config


@pytest.mark.parametrize(
    'chunk', [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, CHUNKS))]
)
def test_mutants_of_a_config(tmp_path, monkeypatch, capsys, chunk):
    write_images(tmp_path)
    here = Here(monkeypatch, capsys, tmp_path)
    config = Config.fromstring(CONFIG, '.py').to_dict()
    config['train_cfg']['max_epochs'] = 1
    config['randomness'] = {'seed': 0}
    config['default_hooks'] = {'checkpoint': {'type': 'CheckpointHook', 'interval': 1}}
    refused = 0
    for number in range(MUTANTS):
        rng = random.Random(f'{chunk} {number}')
        text = assignments(mutant(rng, config))
        (tmp_path / 'config.py').write_text(text)
        for kept in (DefaultScope, MMLogger, MessageHub, Visualizer):
            kept._instance_dict.clear()
        status = 0
        try:
            here.run('train.py', 'config.py', '--work-dir', tmp_path / f'w{number}')
        except SystemExit as exit_:
            status = exit_.code
        except BaseException as error:
            raise AssertionError(f'{error!r}\n{text}') from error
        if status:
            said = capsys.readouterr().err.strip().splitlines()
            assert status == 2, text
            assert said[-1].startswith('error: '), text
            refused += 1
    assert 0 < refused < MUTANTS
