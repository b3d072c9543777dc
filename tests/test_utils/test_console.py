"""What a job prints at its end."""

from asvit_mm.utils.console import print_summary


def test_a_summary_is_not_wrapped(capsys):
    print_summary({'a': 'x' * 200, 'long name': '[y]'})
    assert capsys.readouterr().out.splitlines() == ['a          ' + 'x' * 200, 'long name  [y]']
