"""The measures by name, and their values for an architecture, averaged over freshly initialized networks."""

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arch import Architecture
from ..cost import count_macs, count_params
from ..errors import InputError, one_line
from ..tokens import ImageSize, as_pair
from ..utils.timing import now
from .any_model import AnyModel, count_multiply_adds
from .curves import extrinsic_curvature, gauss_map_length, length_distortion
from .ntk import ntk_condition_number
from .probe import ProbeNetwork, Subject
from .proxies import auto_prox, dss_indicator, gradient_norm, naswot, synflow, token_entropy
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


def _params(probe: ProbeNetwork) -> int:
    if isinstance(probe.arch, Architecture):
        return count_params(
            probe.arch,
            img_size=probe.img_size,
            abs_pos_embed=False,
            in_channels=probe.in_channels,
        )
    return sum(parameter.numel() for parameter in probe.network.parameters())


def _macs(probe: ProbeNetwork) -> int:
    if isinstance(probe.arch, Architecture):
        return count_macs(probe.arch, probe.img_size, in_channels=probe.in_channels)
    return count_multiply_adds(probe.network, probe.img_size)


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
        lambda p: Score(float(_params(p))),
    ),
    MeasureInfo(
        'flops',
        'FLOPs (multiply-adds)',
        'none (closed form)',
        'counted; backbone, one image',
        lambda p: Score(float(_macs(p))),
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
    MeasureInfo(
        'auto_prox',
        'Auto-Prox',
        'one forward and backward pass of one image, float64',
        'Wei et al., Auto-Prox, arXiv 2312.09059, figure 7',
        lambda p: auto_prox(p.network, p.img_size),
        ('network',),
    ),
    MeasureInfo(
        'naswot',
        'NASWOT',
        'one forward pass over the batch',
        'Mellor et al., arXiv 2006.04647, section 3',
        _on_images(naswot),
        ('network', 'images'),
    ),
    MeasureInfo(
        'token_entropy',
        'token entropy',
        'one forward pass over the batch, singular values of its last tokens',
        'this package',
        _on_images(token_entropy),
        ('network', 'images'),
    ),
)
MEASURES = {info.name: info for info in _ALL}


def find_measures(names: Iterable[str]) -> list[MeasureInfo]:
    """The measures with these names, in their order; an InputError for an unknown name or for none at all."""
    names = list(names)
    unknown = [f'unknown measure {name!r}' for name in names if name not in MEASURES]
    if unknown or not names:
        mistake = unknown[0] if unknown else 'no measure is given'
        raise InputError(f'{mistake}: choose from {", ".join(MEASURES)}')
    return [MEASURES[name] for name in names]


def measure(
    arch: Subject,
    images: Tensor | None,
    *,
    names: Sequence[str] = SEARCH_MEASURES,
    img_size: ImageSize,
    repeat: int = 5,
    seed: int | Sequence[int] = 0,
    device: str | torch.device = 'cpu',
    dtype: torch.dtype = torch.float32,
    memory_limit: int | None = None,
) -> dict[str, Score]:
    """Measures of ``arch``, each the mean over ``repeat`` freshly initialized networks.

    As in the published search, images and circles are fixed for a run while every call draws fresh weights,
    each network has its own batch and circle, and there is no position embedding.

    Args:
        arch: an architecture, or a function that creates a network of another kind
            (:class:`~asvit_mm.measures.AnyModel`) with fresh weights.
        images: (repeat, B, channels, height, width), one batch per network; may be None if no measure needs
            images.
        names: of :data:`~asvit_mm.measures.MEASURES`; the result has their order.
        repeat: number of networks.
        seed: one number, or several as those of :class:`~asvit_mm.measures.ProbeNetwork`, which also
            explains the other arguments.

    Raises:
        InputError: an unknown measure, or ``images`` that are missing or not one batch per network.

    Warns:
        UserWarning: a batch has identical images, so that its NTK condition number is undefined.
    """
    if repeat < 1:
        raise InputError(f'repeat = {repeat} is not allowed: measure at least 1 network')
    check_images(images, repeat, names=names, img_size=img_size)
    seeds = (seed,) if isinstance(seed, int) else seed
    networks = []
    for index in range(repeat):
        batch = None if images is None else images[index]
        probe = ProbeNetwork(arch, img_size, seeds, index, batch, device, dtype, memory_limit)
        networks.append(measure_network(probe, names))
    return {name: Score.mean([scores[name] for scores in networks]) for name in networks[0]}


def measure_network(
    probe: ProbeNetwork, names: Sequence[str] = SEARCH_MEASURES
) -> dict[str, Score]:
    """Measures of a single network, with their times; their order does not matter."""
    scores = {}
    for info in find_measures(names):
        for need in info.needs:
            getattr(probe, need)
        start = now(probe.device)
        score = _compute(info, probe)
        scores[info.name] = dataclasses.replace(score, seconds=now(probe.device) - start)
    return scores


def _compute(info: MeasureInfo, probe: ProbeNetwork) -> Score:
    try:
        return info.compute(probe)
    except (NotImplementedError, RuntimeError) as error:
        # Some layer of somebody else's network has no derivative in forward mode, or none of second order.
        if isinstance(error, torch.OutOfMemoryError) or not isinstance(probe.network, AnyModel):
            raise
        return Score.bad(f'a layer of this network cannot be measured so: {one_line(error)[:200]}')


def check_images(
    images: Tensor | None, repeat: int, *, names: Sequence[str], img_size: ImageSize
) -> None:
    """Check the images of :func:`measure`, which has the same arguments, errors and warnings."""
    infos = find_measures(names)
    if not any('images' in info.needs for info in infos):
        return
    wanted = 'give (repeat, batch, channels, height, width)'
    if images is None:
        raise InputError(f'a measure needs images and there are none: {wanted}')
    height, width = as_pair(img_size)
    if images.ndim != 5 or len(images) != repeat or images.shape[3:] != (height, width):
        raise InputError(
            f'images of shape {tuple(images.shape)} do not fit repeat = {repeat} and {height} x {width} '
            f'pixels: {wanted}'
        )
    if MEASURES['ntk_condition_number'] not in infos:
        return
    for number, batch in enumerate(images, start=1):
        for i, j in itertools.combinations(range(len(batch)), 2):
            if torch.equal(batch[i], batch[j]):
                warnings.warn(
                    f'images {i} and {j} of the batch of network {number} are identical, so its NTK '
                    'condition number is undefined: give images that differ',
                    stacklevel=3,  # the caller of measure()
                )
                return
