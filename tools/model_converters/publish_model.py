"""Publish a checkpoint: its weights alone, named by their SHA-256, and their entry in a metafile."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import option, parse, positional


@dataclass(frozen=True)
class PublishSettings:
    """What is published, and where it is recorded."""

    config: str = positional()
    """that trained the checkpoint"""
    checkpoint: str = positional()
    """that tools/train.py wrote (.pth)"""
    out_dir: Path = Path('weights')
    """folder of the published file"""
    trained: bool = False
    """after a run with EMAHook: the trained weights instead of their average"""
    half: bool = False
    """store in half precision"""
    format: Literal['pth', 'safetensors'] = 'pth'
    """of the published file"""
    metafile: Path | None = None
    """to record them in (default: the zoo's that has the config, else metafile.yml beside it)"""
    no_metafile: bool = False
    """record nothing"""
    evaluate: str | None = option(default=None, metavar='DATASET')
    """test the published file on the config's test set and record the result under this name"""
    cfg_options: tuple[str, ...] = option(default=(), metavar='KEY=VALUE')
    """override settings of the config: dotted keys, as train_cfg.max_epochs=10 or key=a,b"""


def parse_args() -> PublishSettings:
    """Read the command line."""
    return parse(PublishSettings, __doc__)


def main() -> None:
    """Publish, evaluate, record."""
    with one_line_errors():
        given = parse_args()
        from asvit_mm.engine.options import parse_options
        from asvit_mm.zoo.publishing import evaluate, metafile_of, publish, read_metafile, record

        options = given.cfg_options
        metafile = given.metafile or metafile_of(given.config)
        read_metafile(metafile)  # refused before the work rather than after it
        weights = publish(
            given.config,
            given.checkpoint,
            given.out_dir,
            averaged=not given.trained,
            half=given.half,
            suffix=given.format,
            options=parse_options(options),
        )
        print(f'written: {weights}')
        if given.no_metafile:
            return
        metrics = None
        if given.evaluate:
            folder = Path('work_dirs') / f'{Path(given.config).stem}_published'
            metrics = evaluate(given.config, weights, folder, options)
        record(metafile, given.config, weights, metrics, given.evaluate or '', options)
        print(f'recorded: {metafile}; python tools/misc/update_zoo.py counts and writes the tables')


if __name__ == '__main__':
    main()
