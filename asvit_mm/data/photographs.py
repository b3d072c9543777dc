"""Natural images that come with a dependency: crops of scikit-learn's two photographs.

They are china.jpg and flower.jpg (CC BY 2.0, danielbuechele and vultilion on flickr), 640 x 427 pixels.
"""

from functools import cache

import numpy as np
from PIL import Image


@cache
def read_photographs() -> tuple[Image.Image, ...]:
    """The photographs, RGB."""
    # Takes a second or two, which no other source has to wait for.
    from sklearn.datasets import load_sample_images

    return tuple(map(Image.fromarray, load_sample_images().images))


def random_crop(rng: np.random.Generator, size: int) -> np.ndarray:
    """A square crop of a photograph, of any scale from half of ``size`` up, resized to ``size`` pixels.

    Returns:
        float64 (size, size, 3), levels 0..255.
    """
    photographs = read_photographs()
    photograph = photographs[rng.integers(len(photographs))]
    width, height = photograph.size
    side = int(rng.integers(min(size, height) // 2, height + 1))
    left = int(rng.integers(0, width - side + 1))
    top = int(rng.integers(0, height - side + 1))
    box = (left, top, left + side, top + side)
    resized = photograph.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized, np.float64).copy()
