"""tools/misc/draw_method.py: the README's picture of the method."""

import runpy
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]


def test_the_picture_is_drawn(tmp_path, monkeypatch, capsys):
    out = tmp_path / 'method.png'
    script = str(ROOT / 'tools' / 'misc/draw_method.py')
    monkeypatch.setattr(sys, 'argv', [script, '--out', str(out)])
    runpy.run_path(script, run_name='__main__')
    assert capsys.readouterr().out.strip() == str(out)
    assert out.stat().st_size < 150_000
    with Image.open(out) as drawn, Image.open(ROOT / 'docs/images/method.png') as shipped:
        assert drawn.format == 'PNG'
        assert drawn.size == shipped.size
        # The photographs have many colours of their own.
        assert len(drawn.convert('RGB').getcolors(2**20)) > 150
