"""Export of a config's model: the network that is exported, the formats, and what a file is held to.

What is written holds the weights and runs without this package: logits of a classifier, or the maps of a
backbone for whatever stands behind it.
"""

from .checking import CALLS, images_of, largest_difference, probed_shapes, time_both
from .formats import FORMATS, INPUT, require_packages
from .networks import Network, describe_images, load_weights, prepare_network

__all__ = [
    'CALLS',
    'FORMATS',
    'INPUT',
    'Network',
    'describe_images',
    'images_of',
    'largest_difference',
    'load_weights',
    'prepare_network',
    'probed_shapes',
    'require_packages',
    'time_both',
]
