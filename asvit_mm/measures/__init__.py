"""Training-free measures of untrained networks (As-ViT, arXiv 2202.11921, section 3)."""

from .curvature import extrinsic_curvature, gauss_map_length
from .length_distortion import length_distortion
from .measure import check_images, measure, measure_network
from .ntk import ntk_condition_number
from .probe import ImageCircle, ProbeNetwork, fresh_network, without_norms
from .proxies import dss_indicator, gradient_norm, synflow
from .registry import MEASURES, SEARCH_MEASURES, MeasureInfo, find_measures
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
