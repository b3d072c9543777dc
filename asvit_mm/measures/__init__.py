"""Training-free complexity measures (As-ViT, arXiv 2202.11921, section 3)."""

from .curvature import extrinsic_curvature, gauss_map_length
from .length_distortion import curve_basis, length_distortion
from .measure import Timed, check_images, measure, measure_network, measure_timed
from .ntk import ntk_condition_number
from .probe import Subject, fresh_network, without_norms
from .proxies import dss_indicator, gradient_norm, synflow
from .registry import MEASURES, SEARCH_MEASURES, MeasureInfo, find_measures
from .score import Score

__all__ = [
    'MEASURES',
    'SEARCH_MEASURES',
    'MeasureInfo',
    'Score',
    'Subject',
    'Timed',
    'check_images',
    'curve_basis',
    'dss_indicator',
    'extrinsic_curvature',
    'find_measures',
    'fresh_network',
    'gauss_map_length',
    'gradient_norm',
    'length_distortion',
    'measure',
    'measure_network',
    'measure_timed',
    'ntk_condition_number',
    'synflow',
    'without_norms',
]
