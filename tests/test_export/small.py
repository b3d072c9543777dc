"""A network of two maps, quick to export, whose outputs follow its input's size and content."""

from torch import nn

from asvit_mm.export import Network
from asvit_mm.export.networks import Pixels


class Maps(nn.Module):
    """Images (N, 2, H, W) to them, less one, and to their 2 x 2 means."""

    def forward(self, images):
        return images - 1, nn.functional.avg_pool2d(images, 2)


def network(module=None, **settings):
    """The network of ``module``, or of :class:`Maps`, for images of 6 x 4."""
    module = module or Maps()
    return Network(
        **{
            'module': module,
            'part': module,
            'outputs': ('stage1', 'stage2'),
            'pixels': Pixels('', None, None),
            'raw': False,
            'channels': 2,
            'size': (6, 4),
            'step': 0,
            'smallest': 0,
            **settings,
        }
    )
