"""Studies of network complexity and of the search.

Does a measure predict the accuracy that training reaches? As-ViT (arXiv 2202.11921, section 3.2) answers it
by Kendall's tau between a measure and the accuracy of sampled architectures. Where do found seeds stand
among random ones, what do repeats buy, and how do search methods compare?
"""

from .comparison import comparison_report, search_seeds_of, summarise_comparison
from .records import StudyFolder
from .report import TABLE_WIDTH, markdown_report, screen_table, summarise
from .sampling import Sampled, sample_architectures
from .standing import (
    draw_seeds,
    percentile,
    percentiles,
    rank_sum_percentile,
    standing_report,
    summarise_standing,
)
from .statistics import Correlation, correlate
from .training import train_and_test, training_config, with_validation

__all__ = [
    'TABLE_WIDTH',
    'Correlation',
    'Sampled',
    'StudyFolder',
    'comparison_report',
    'correlate',
    'draw_seeds',
    'markdown_report',
    'percentile',
    'percentiles',
    'rank_sum_percentile',
    'sample_architectures',
    'screen_table',
    'search_seeds_of',
    'standing_report',
    'summarise',
    'summarise_comparison',
    'summarise_standing',
    'train_and_test',
    'training_config',
    'with_validation',
]
