"""Write the zoo's metafiles and tables of models anew: costs, addresses and architectures as they are."""

import argparse
from pathlib import Path

from asvit_mm.errors import InputError, one_line_errors

ROOT = Path(__file__).resolve().parents[2]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--detectors',
        action='store_true',
        help='count detectors again, too (a prediction each: minutes)',
    )
    parser.add_argument(
        '--check', action='store_true', help='write nothing; fail where something is stale'
    )
    return parser.parse_args()


def main() -> None:
    """Refresh, or compare."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.analysis.flops import count_detector
        from asvit_mm.utils.files import atomic_write_text
        from asvit_mm.zoo.cards import refreshed

        texts = refreshed(ROOT, count_detector, recount=args.detectors)
        stale = [path for path, text in texts.items() if path.read_text(encoding='utf-8') != text]
        names = ', '.join(str(path.relative_to(ROOT)) for path in stale)
        if args.check and stale:
            raise InputError(f'stale: {names}; run python tools/misc/update_zoo.py')
        for path in stale:
            atomic_write_text(path, texts[path])
        print(f'written: {names}' if stale else 'nothing is stale')


if __name__ == '__main__':
    main()
