"""The registry of measures: name, direction, cost and source of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..cost import count_macs, count_params
from ..errors import InputError
from .curvature import extrinsic_curvature, gauss_map_length
from .length_distortion import length_distortion
from .ntk import ntk_condition_number
from .probe import ProbeNetwork
from .proxies import dss_indicator, gradient_norm, synflow
from .score import Score

ASVIT = 'Chen et al., As-ViT, arXiv 2202.11921, section 3'
POOLE = 'Poole et al., arXiv 1606.05340, section 3'
SEARCH_MEASURES = ('length_distortion', 'ntk_condition_number')


@dataclass(frozen=True)
class MeasureInfo:
    """A measure of an untrained network.

    Attributes:
        name: as on the command line.
        title: as in tables.
        cost: of one network, in words.
        source: publication.
        compute: the measure; returns the score of one network.
        needs: attributes of the :class:`~asvit_mm.measures.ProbeNetwork` that ``compute`` reads; they are
            created before the clock starts, since measures share them.
        higher_is_better: which networks should train to a higher accuracy, according to the source.
    """

    name: str
    title: str
    cost: str
    source: str
    compute: Callable[[ProbeNetwork], Score]
    needs: tuple[str, ...] = ()
    higher_is_better: bool = True

    @property
    def arrow(self) -> str:
        """The better direction as one character."""
        return '↑' if self.higher_is_better else '↓'


def _on_circle(function: Callable[..., Score]) -> Callable[[ProbeNetwork], Score]:
    return lambda p: function(p.norm_free, p.circle, memory_limit=p.memory_limit)


def _on_images(function: Callable[..., Score]) -> Callable[[ProbeNetwork], Score]:
    return lambda p: function(p.network, p.images, memory_limit=p.memory_limit)


_ALL = (
    MeasureInfo(
        'length_distortion',
        'length distortion',
        'one forward-mode pass over 10 images',
        f'{ASVIT}; {POOLE}',
        _on_circle(length_distortion),
        ('norm_free', 'circle'),
    ),
    MeasureInfo(
        'extrinsic_curvature',
        'extrinsic curvature',
        'one second-order forward-mode pass over 10 images',
        f'{POOLE}; {ASVIT}',
        _on_circle(extrinsic_curvature),
        ('norm_free', 'circle'),
    ),
    MeasureInfo(
        'gauss_map_length',
        'Gauss-map length',
        'one second-order forward-mode pass over 10 images',
        f'{POOLE}; {ASVIT}',
        _on_circle(gauss_map_length),
        ('norm_free', 'circle'),
    ),
    MeasureInfo(
        'ntk_condition_number',
        'NTK condition number',
        'one forward and backward pass over the batch',
        ASVIT,
        _on_images(ntk_condition_number),
        ('network', 'images'),
        higher_is_better=False,
    ),
    MeasureInfo(
        'params',
        'parameters',
        'none (closed form)',
        'counted; backbone without position embedding',
        lambda p: Score(float(count_params(p.arch, img_size=p.img_size, abs_pos_embed=False))),
    ),
    MeasureInfo(
        'flops',
        'FLOPs (multiply-adds)',
        'none (closed form)',
        'counted; backbone, one image',
        lambda p: Score(float(count_macs(p.arch, p.img_size))),
    ),
    MeasureInfo(
        'gradient_norm',
        'gradient norm',
        'one forward and backward pass over the batch',
        'Abdelfattah et al., arXiv 2101.08134, section 3.1',
        _on_images(gradient_norm),
        ('network', 'images'),
    ),
    MeasureInfo(
        'synflow',
        'synflow',
        'one forward and backward pass of one image, float64',
        'Tanaka et al., arXiv 2006.05467, section 5',
        lambda p: synflow(p.network, p.img_size),
        ('network',),
    ),
    MeasureInfo(
        'dss_indicator',
        'DSS indicator',
        'one forward and backward pass of one image, singular values of attention weights, float64',
        'Zhou et al., TF-TAS, arXiv 2203.12217, section 3',
        lambda p: dss_indicator(p.network, p.img_size),
        ('network',),
    ),
)
MEASURES = {info.name: info for info in _ALL}


def find_measures(names: Iterable[str]) -> list[MeasureInfo]:
    """The measures with these names, in their order.

    Raises:
        InputError: an unknown name, or no name at all.
    """
    names = list(names)
    for name in names:
        if name not in MEASURES:
            raise InputError(f'unknown measure {name!r}: choose from {", ".join(MEASURES)}')
    if not names:
        raise InputError(f'no measure is given: choose from {", ".join(MEASURES)}')
    return [MEASURES[name] for name in names]
