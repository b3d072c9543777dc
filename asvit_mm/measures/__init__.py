"""Training-free measures of untrained networks (As-ViT, arXiv 2202.11921, section 3)."""

from .any_model import AnyModel, without_norms
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
from .probe import ImageCircle, ProbeNetwork, Subject, fresh_network
from .proxies import auto_prox, dss_indicator, gradient_norm, naswot, synflow, token_entropy
from .score import Score

__all__ = [
    'MEASURES',
    'SEARCH_MEASURES',
    'AnyModel',
    'ImageCircle',
    'MeasureInfo',
    'ProbeNetwork',
    'Score',
    'Subject',
    'auto_prox',
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
    'naswot',
    'ntk_condition_number',
    'synflow',
    'token_entropy',
    'without_norms',
]
