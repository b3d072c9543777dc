"""Publish a checkpoint: its weights alone, named by their SHA-256, and their entry in a metafile."""

import argparse
from pathlib import Path

from asvit_mm.engine.arguments import CFG_OPTIONS_HELP
from asvit_mm.errors import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='that trained it')
    parser.add_argument('checkpoint', help='that tools/train.py wrote (.pth)')
    parser.add_argument(
        '--out-dir', type=Path, default=Path('weights'), help='default: %(default)s'
    )
    parser.add_argument(
        '--trained',
        action='store_true',
        help='of a run with EMAHook: the weights that were trained, not their average',
    )
    parser.add_argument('--half', action='store_true', help='store in half precision')
    parser.add_argument(
        '--format', choices=['pth', 'safetensors'], default='pth', help='default: %(default)s'
    )
    parser.add_argument(
        '--metafile',
        type=Path,
        help="to record them in (default: the zoo's that has the config, else metafile.yml beside it)",
    )
    parser.add_argument('--no-metafile', action='store_true', help='record nothing')
    parser.add_argument(
        '--evaluate',
        metavar='DATASET',
        help="test what was written on the config's test set and record it under this name",
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help=CFG_OPTIONS_HELP
    )
    return parser.parse_args()


def main() -> None:
    """Publish, evaluate, record."""
    args = parse_args()
    with one_line_errors():
        from asvit_mm.engine.runner import parse_options
        from asvit_mm.zoo.publishing import evaluate, metafile_of, publish, read_metafile, record

        options = parse_options(args.cfg_options)
        metafile = args.metafile or metafile_of(args.config)
        read_metafile(metafile)  # it may be refused, which is better before than after the work
        weights = publish(
            args.config,
            args.checkpoint,
            args.out_dir,
            averaged=not args.trained,
            half=args.half,
            suffix=args.format,
            options=options,
        )
        print(f'written: {weights}')
        if args.no_metafile:
            return
        metrics = None
        if args.evaluate:
            folder = Path('work_dirs') / f'{Path(args.config).stem}_published'
            metrics = evaluate(args.config, weights, folder, args.cfg_options or [])
        given = args.cfg_options or []
        record(metafile, args.config, weights, metrics, args.evaluate or '', given)
        print(f'recorded: {metafile}; python tools/misc/update_zoo.py counts and writes the tables')


if __name__ == '__main__':
    main()
