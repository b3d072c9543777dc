"""The configs of a run and how they are called: by what their networks cost."""

from collections.abc import Iterator
from itertools import count

from ..arch import Architecture
from ..cost import count_macs, count_params
from ..data.source import DataSource
from .configs import config_text
from .detection import detection_text
from .recipes import recipe

_UNITS = {0: '', 3: 'k', 6: 'm', 9: 'g'}


def network_names(arch: Architecture, data: DataSource) -> Iterator[str]:
    """Names of a network from short to exact: ``asvit-29m-5.1gf``, ``asvit-29.1m-5.13gf``, ...

    Parameters, then multiply-adds of an image, of the classifier that is trained on ``data``, to two
    significant digits (three where that is whole, 110m), as RegNet's configs are named. The further names
    have ever more digits; past the exact figures they are numbered, from -2 on.
    """
    costs = [
        count_params(arch, data.num_classes, img_size=data.img_size),
        count_macs(arch, data.img_size, data.num_classes),
    ]
    for digits in range(2, len(str(max(costs))) + 1):
        params, macs = (_short(cost, digits) for cost in costs)
        yield f'asvit-{params}-{macs}f'
    for number in count(2):
        yield f'asvit-{params}-{macs}f-{number}'


class RunConfigs:
    """The configs of a run: each architecture's classifier, and its backbone in Mask R-CNN.

    File names are ``asvit-29m-5.1gf_8xb128_in1k.py``, by mmpretrain's convention, and
    ``mask-rcnn_asvit-29m-5.1gf_fpn_1x_coco.py``, by mmdet's. Where an earlier architecture of the run has
    a name, the later one gets more digits (see :func:`network_names`), so names follow from the order in
    which architectures come and no two are alike. In a series the exact figures always differ, since every
    member has more parameters than the one before.

    Args:
        data: what the classifiers are trained on.
        progressive: whether with progressive tokenization.
        folder: where the configs will lie, for the commands in their headers.

    Attributes:
        texts: file name to text.
    """

    def __init__(
        self, data: DataSource, *, progressive: bool = False, folder: str = 'configs'
    ) -> None:
        self.data = data
        self.progressive = progressive
        self.folder = folder
        self.texts: dict[str, str] = {}
        self._names: dict[Architecture, str] = {}

    def add(self, arch: Architecture) -> dict[str, str]:
        """Write the texts of an architecture, unless it came before.

        Returns:
            'config' and 'detection_config', relative to the work dir, for a run's result.
        """
        new = arch not in self._names
        if new:
            taken = set(self._names.values())
            self._names[arch] = next(
                name for name in network_names(arch, self.data) if name not in taken
            )
        network = self._names[arch]
        schedule = recipe(self.data).batch_name + ('-progressive' if self.progressive else '')
        config = f'{network}_{schedule}_{self.data.name}.py'
        detection = f'mask-rcnn_{network}_fpn_1x_coco.py'
        if new:
            self.texts[config] = config_text(
                arch, self.data, progressive=self.progressive, path=f'{self.folder}/{config}'
            )
            self.texts[detection] = detection_text(
                arch, self.data, path=f'{self.folder}/{detection}'
            )
        return {'config': f'configs/{config}', 'detection_config': f'configs/{detection}'}


def _short(value: int, digits: int) -> str:
    """``value`` with a unit, to ``digits`` significant digits, but never rounded to tens."""
    exponent = int(f'{value:.{digits - 1}e}'.partition('e')[2])
    power = min(exponent // 3 * 3, max(_UNITS))
    decimals = max(0, digits - 1 - (exponent - power))
    return f'{value / 10**power:.{decimals}f}{_UNITS[power]}'
