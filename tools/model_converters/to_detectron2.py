"""Write the backbone of a checkpoint as Detectron2 reads it."""

from dataclasses import dataclass
from pathlib import Path

from asvit_mm.utils.command_line import make_tool, option, positional


@dataclass(frozen=True)
class ConvertSettings:
    """What is converted, and for which model."""

    checkpoint: str = positional()
    """of a classifier, detector or segmentor with the backbone, or of the backbone alone"""
    out: Path = positional()
    """the file to write (.pth), for train.init_checkpoint or MODEL.WEIGHTS"""
    arch: str = 'small'
    """of the backbone: a preset or an architecture string; weights of other shapes are refused, and other
    splits or another stride if the checkpoint has the config of its run"""
    img_size: tuple[int, ...] | None = option(default=None, nargs='+', metavar='PIXELS')
    """img_size of the model in Detectron2, one number or height and width (default: the checkpoint's)"""
    prefix: str = 'backbone.bottom_up.'
    """of the backbone's weights in the model; backbone. without a feature pyramid"""


def convert(given: ConvertSettings) -> None:
    """Convert the checkpoint."""
    from asvit_mm.zoo.converting import to_detectron2

    size = given.img_size
    path = to_detectron2(
        given.checkpoint,
        given.out,
        given.arch,
        img_size=size[0] if size and len(size) == 1 else size,
        prefix=given.prefix,
    )
    print(f'written: {path}')


parse_args, main = make_tool(ConvertSettings, convert, __doc__)

if __name__ == '__main__':
    main()
