"""Numbers with units: 80M, 2.5M, 5.13 G."""

from ..errors import InputError

_FACTORS = {'': 1, 'K': 10**3, 'M': 10**6, 'G': 10**9, 'B': 10**9}


def parse_count(text: str, what: str = 'parameters') -> int:
    """The integer for '80M', '2.5M', '500k', '1.2B' or a plain integer.

    Args:
        what: what is counted, for the error message.

    Raises:
        InputError: the text is none of these, or not positive.
    """
    cleaned = text.strip().replace(',', '').replace('_', '')
    suffix = cleaned[-1:].upper() if cleaned[-1:].isalpha() else ''
    number = cleaned[: len(cleaned) - len(suffix)]
    try:
        value = float(number) * _FACTORS[suffix]
        if 0.5 <= value < 1e15:
            return round(value)
    except (KeyError, ValueError):
        pass
    raise InputError(f'{text!r} is not a number of {what}: write it as 80M, 2.5M or 80000000')


def format_count(value: int) -> str:
    """Three significant digits and a unit: 29.1 M, 5.13 G, 431 k."""
    for factor, unit in ((10**9, ' G'), (10**6, ' M'), (10**3, ' k')):
        if value >= factor:
            scaled = value / factor
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f'{scaled:.{digits}f}{unit}'
    return str(value)
