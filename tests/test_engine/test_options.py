"""--cfg-options: what MMEngine reads is read, and what is no list stays as it was typed."""

import pytest

from asvit_mm.arch import PRESETS
from asvit_mm.engine.options import parse_options
from asvit_mm.errors import InputError


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('3', 3),
        ('-0.5', -0.5),
        ('1e-3', 1e-3),
        ('True', True),
        ('false', False),
        ('None', None),
        ('', ''),
        ('1,2', [1, 2]),
        ('a,', ['a']),
        ('[1,2]', [1, 2]),
        ('(1)', (1,)),
        ('[(a,b),(c,d)]', [('a', 'b'), ('c', 'd')]),
        ('[]', []),
        ('()', ()),
        ('adamw', 'adamw'),
        # architectures and schedules
        *((str(arch), str(arch)) for arch in PRESETS.values()),
        ('16@0.25,8@0.5,4@1.0', '16@0.25,8@0.5,4@1.0'),
        ('16/1@8,8@14,4@30', '16/1@8,8@14,4@30'),
        (f"['{PRESETS['seed']}', small]", [str(PRESETS['seed']), 'small']),
        # paths
        ('/data/my images/x', '/data/my images/x'),
        ('data/a (1).png', 'data/a (1).png'),
        ('/x/a(1,2)/b', '/x/a(1,2)/b'),
        ('/x/a(1', '/x/a(1'),
        ("it's", "it's"),
        ('a b, c d', ['a b', 'c d']),
        # strings and dicts in quotation marks
        ("'a,b'", 'a,b'),
        ("'[1,2]'", '[1,2]'),
        ("'\"'", '"'),
        ("'x','y'", ['x', 'y']),
        ("['a,b', 'c d', 3]", ['a,b', 'c d', 3]),
        ("{'a': [1, 2], 'b': {}}", {'a': [1, 2], 'b': {}}),
        ("dict(type='X', y=(1, 2), z=dict(a=None))", {'type': 'X', 'y': (1, 2), 'z': {'a': None}}),
        ("[dict(type='A', s=[1]), {'b': 2}]", [{'type': 'A', 's': [1]}, {'b': 2}]),
    ],
)
def test_values(text, value):
    assert parse_options([f'a.b={text}']) == {'a.b': value}
    assert type(parse_options([f'a={text}'])['a']) is type(value)


@pytest.mark.parametrize(
    'pair',
    [
        *('a', '=1', 'a..b=1', '.=1', 'a=[b', 'a=[1,2]]', 'a=(1,2]', 'a=x(,y', "a=['b]"),
        *('a={a:1}', "a={'a': __import__('os')}", "a=dict(**{'b': 1})", 'a={1, 2}', 'a={}.x'),
        *(f'a={"[" * 5000}{"]" * 5000}', f'a={"{" * 500}', f'a={"(" * 30}1{")" * 30}'),
        f'a={"dict(b=" * 2000}1{")" * 2000}',
    ],
)
def test_what_cannot_be_read_is_one_line(pair):
    with pytest.raises(InputError, match='--cfg-options') as error:
        parse_options([pair])
    assert '\n' not in str(error.value)
    assert len(str(error.value)) < 400


def test_later_pairs_win_and_nothing_is_nothing():
    assert parse_options(['a=1', 'a=2']) == {'a': 2}
    assert parse_options(None) == parse_options([]) == {}
