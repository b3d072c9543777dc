"""Rewrite the metafiles and tables of models of the zoo: costs, addresses, architectures."""

from dataclasses import dataclass
from pathlib import Path

from asvit_mm.errors import InputError
from asvit_mm.utils.command_line import make_tool, option

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class UpdateSettings:
    """What is counted, and whether files are written."""

    detectors: bool = False
    """count detectors and segmentors again, too (a minute)"""
    weights_url: str | None = option(default=None, metavar='URL')
    """new base address of the published weights, such as https://HOST/FOLDER, in every metafile and in
    asvit_mm/checkpoints/hosting.py"""
    check: bool = False
    """write nothing; fail where something is stale"""


def update(settings: UpdateSettings) -> None:
    """Refresh, or compare."""
    from asvit_mm.analysis.flops import count_config
    from asvit_mm.utils.files import atomic_write_text
    from asvit_mm.zoo.cards import refresh

    texts = refresh(ROOT, count_config, settings.detectors, settings.weights_url)
    stale = [path for path, text in texts.items() if path.read_text(encoding='utf-8') != text]
    names = ', '.join(str(path.relative_to(ROOT)) for path in stale)
    if settings.check and stale:
        raise InputError(f'stale: {names}; run python tools/misc/update_zoo.py')
    for path in stale:
        atomic_write_text(path, texts[path])
    print(f'written: {names}' if stale else 'nothing is stale')


parse_args, main = make_tool(UpdateSettings, update, __doc__)

if __name__ == '__main__':
    main()
