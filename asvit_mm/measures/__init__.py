"""Training-free measures of untrained networks (As-ViT, arXiv 2202.11921, section 3)."""

from .curves import extrinsic_curvature, gauss_map_length, length_distortion
from .measure import (
    MEASURES,
    SEARCH_MEASURES,
    MeasureInfo,
    check_images,
    find_measures,
    measure,
    measure_network,
)
from .ntk import ntk_condition_number
from .probe import ImageCircle, ProbeNetwork, fresh_network, without_norms
from .proxies import dss_indicator, gradient_norm, synflow
from .score import Score

__all__ = [
    'MEASURES',
    'SEARCH_MEASURES',
    'ImageCircle',
    'MeasureInfo',
    'ProbeNetwork',
    'Score',
    'check_images',
    'dss_indicator',
    'extrinsic_curvature',
    'find_measures',
    'fresh_network',
    'gauss_map_length',
    'gradient_norm',
    'length_distortion',
    'measure',
    'measure_network',
    'ntk_condition_number',
    'synflow',
    'without_norms',
]
