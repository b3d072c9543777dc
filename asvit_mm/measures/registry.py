"""The registry of measures: what each is called, which way is better, what it costs, who published it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..cost import count_macs, count_params
from ..errors import InputError
from .curvature import extrinsic_curvature, gauss_map_length
from .length_distortion import length_distortion
from .ntk import ntk_condition_number
from .probe import Subject
from .proxies import dss_indicator, gradient_norm, synflow
from .score import Score

ASVIT = 'Chen et al., As-ViT, arXiv 2202.11921, section 3'
POOLE = 'Poole et al., arXiv 1606.05340, section 3'


@dataclass(frozen=True)
class MeasureInfo:
    """A measure of an untrained network.

    Attributes:
        name: as users type it.
        title: as tables show it.
        higher_is_better: which networks should train to a higher accuracy, by the measure's source.
        cost: what one network costs, in words.
        source: who published it, and where.
        compute: the measure; its score is that of one network.
        needs: attributes of the :class:`~asvit_mm.measures.probe.Subject` that ``compute`` reads; they
            are made before the clock starts, since measures share them.
    """

    name: str
    title: str
    higher_is_better: bool
    cost: str
    source: str
    compute: Callable[[Subject], Score]
    needs: tuple[str, ...] = ()

    @property
    def arrow(self) -> str:
        """Which way is better, as one character."""
        return '↑' if self.higher_is_better else '↓'


def _on_curve(function: Callable[..., Score]) -> Callable[[Subject], Score]:
    return lambda s: function(s.plain, s.basis, s.img_size, **_memory(s))


def _memory(subject: Subject) -> dict[str, Any]:
    limit = subject.memory_limit
    return {} if limit is None else {'memory_limit': limit}


_CURVE = ('plain', 'basis')

MEASURES: dict[str, MeasureInfo] = {
    info.name: info
    for info in (
        MeasureInfo(
            'length_distortion',
            'length distortion',
            True,
            'one forward-mode pass over 10 images',
            f'{ASVIT}; {POOLE}',
            _on_curve(length_distortion),
            _CURVE,
        ),
        MeasureInfo(
            'extrinsic_curvature',
            'extrinsic curvature',
            True,
            'one second-order forward-mode pass over 10 images',
            f'{POOLE}; {ASVIT}',
            _on_curve(extrinsic_curvature),
            _CURVE,
        ),
        MeasureInfo(
            'gauss_map_length',
            'Gauss-map length',
            True,
            'one second-order forward-mode pass over 10 images',
            f'{POOLE}; {ASVIT}',
            _on_curve(gauss_map_length),
            _CURVE,
        ),
        MeasureInfo(
            'ntk_condition_number',
            'NTK condition number',
            False,
            'one forward and backward pass over the batch',
            ASVIT,
            lambda s: ntk_condition_number(s.network, s.images, **_memory(s)),
            ('network', 'images'),
        ),
        MeasureInfo(
            'params',
            'parameters',
            True,
            'none (closed form)',
            'counted; backbone without position embedding',
            lambda s: Score(float(count_params(s.arch, img_size=s.img_size, abs_pos_embed=False))),
        ),
        MeasureInfo(
            'flops',
            'FLOPs (multiply-adds)',
            True,
            'none (closed form)',
            'counted; backbone, one image',
            lambda s: Score(float(count_macs(s.arch, s.img_size))),
        ),
        MeasureInfo(
            'gradient_norm',
            'gradient norm',
            True,
            'one forward and backward pass over the batch',
            'Abdelfattah et al., arXiv 2101.08134, section 3.1',
            lambda s: gradient_norm(s.network, s.images, **_memory(s)),
            ('network', 'images'),
        ),
        MeasureInfo(
            'synflow',
            'synflow',
            True,
            'one forward and backward pass of one image, float64',
            'Tanaka et al., arXiv 2006.05467, section 5',
            lambda s: synflow(s.network, s.img_size),
            ('network',),
        ),
        MeasureInfo(
            'dss_indicator',
            'DSS indicator',
            True,
            'one forward and backward pass of one image, singular values of attention weights, float64',
            'Zhou et al., TF-TAS, arXiv 2203.12217, section 3',
            lambda s: dss_indicator(s.network, s.img_size),
            ('network',),
        ),
    )
}

SEARCH_MEASURES = ('length_distortion', 'ntk_condition_number')


def find_measures(names: Iterable[str]) -> list[MeasureInfo]:
    """The measures of these names, in their order.

    Raises:
        InputError: an unknown name, or none at all.
    """
    names = list(names)
    for name in names:
        if name not in MEASURES:
            raise InputError(f'{name!r} is no measure: choose from {", ".join(MEASURES)}')
    if not names:
        raise InputError(f'no measure to compute: choose from {", ".join(MEASURES)}')
    return [MEASURES[name] for name in names]
