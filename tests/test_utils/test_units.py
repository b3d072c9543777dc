import pytest

from asvit_mm.errors import InputError
from asvit_mm.utils.units import format_count, parse_count


@pytest.mark.parametrize(
    ('text', 'value'),
    [('80M', 80_000_000), ('2.5m', 2_500_000), ('500k', 500_000), ('1.2B', 1_200_000_000),
     ('1234567', 1_234_567), ('1,234', 1234), (' 3 M ', 3_000_000)],
)  # fmt: skip
def test_parse(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize('text', ['', 'M', '80X', '-5', '0', 'nan', 'inf', '1e99', '8O'])
def test_refuses(text):
    with pytest.raises(InputError, match='write it as 80M'):
        parse_count(text)


@pytest.mark.parametrize(
    ('value', 'text'),
    [(29_051_296, '29.1 M'), (5_130_000_000, '5.13 G'), (431_234, '431 k'), (999, '999'),
     (9_999_999, '10.0 M')],
)  # fmt: skip
def test_format(value, text):
    assert format_count(value) == text
