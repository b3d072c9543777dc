"""The configs of a run, named after the cost of their networks."""

from collections.abc import Iterator
from itertools import count

from ..arch import Architecture
from ..data.source import DataSource
from .configs import config_text
from .detection import detection_text
from .recipes import recipe

_UNITS = {0: '', 3: 'k', 6: 'm', 9: 'g'}


def network_names(arch: Architecture, data: DataSource) -> Iterator[str]:
    """Names of a network from short to exact: ``asvit-29m-5.1gf``, ``asvit-29.1m-5.13gf``, ...

    Parameters and multiply-adds per image of the classifier that is trained on ``data``, to two significant
    digits (three for whole numbers, 110m), as RegNet's configs are named. The next names have more and more
    digits; after the exact figures they are numbered from -2 on.
    """
    costs = [
        data.params(arch),
        data.macs(arch),
    ]
    for digits in range(2, len(str(max(costs))) + 1):
        params, macs = (_short(cost, digits) for cost in costs)
        yield f'asvit-{params}-{macs}f'
    for number in count(2):
        yield f'asvit-{params}-{macs}f-{number}'


class RunConfigs:
    """The configs of a run: for each architecture its classifier, and its backbone in Mask R-CNN.

    File names are ``asvit-29m-5.1gf_8xb128_in1k.py``, by mmpretrain's convention, and
    ``mask-rcnn_asvit-29m-5.1gf_fpn_1x_coco.py``, by mmdet's. An architecture whose name is taken by an
    earlier one gets more digits (see :func:`network_names`): names follow from the order they are added in.

    Args:
        data: what the classifiers are trained on.
        progressive: whether with progressive tokenization.
        folder: where the configs will lie, for the commands in their headers.

    Attributes:
        texts: text of each config by its file name.
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
        """Write the texts of an architecture, unless it was added before.

        Returns:
            'config' and 'detection_config', relative to the work dir, for a run's result.
        """
        data = self.data
        if arch not in self._names:
            taken = set(self._names.values())
            self._names[arch] = next(n for n in network_names(arch, data) if n not in taken)
        schedule = recipe(data).batch_name + ('-progressive' if self.progressive else '')
        config = f'{self._names[arch]}_{schedule}_{data.name}.py'
        detection = f'mask-rcnn_{self._names[arch]}_fpn_1x_coco.py'
        if config not in self.texts:
            path = f'{self.folder}/{config}'
            self.texts[config] = config_text(arch, data, progressive=self.progressive, path=path)
            path = f'{self.folder}/{detection}'
            self.texts[detection] = detection_text(arch, data, path=path)
        return {'config': f'configs/{config}', 'detection_config': f'configs/{detection}'}


def _short(value: int, digits: int) -> str:
    """``value`` with a unit, to ``digits`` significant digits, but never rounded to tens."""
    exponent = int(f'{value:.{digits - 1}e}'.partition('e')[2])
    power = min(exponent // 3 * 3, max(_UNITS))
    decimals = max(0, digits - 1 - (exponent - power))
    return f'{value / 10**power:.{decimals}f}{_UNITS[power]}'
