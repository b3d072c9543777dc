"""Training-free complexity measures (As-ViT, arXiv 2202.11921, section 3)."""

from .length_distortion import curve_basis, length_distortion
from .measure import Measurement, measure
from .ntk import ntk_condition_number
from .score import Score

__all__ = [
    'Measurement',
    'Score',
    'curve_basis',
    'length_distortion',
    'measure',
    'ntk_condition_number',
]
