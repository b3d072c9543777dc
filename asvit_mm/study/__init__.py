"""The study of network complexity: does a measure predict the accuracy that training reaches?

As-ViT (arXiv 2202.11921, section 3.2) answers it by Kendall's tau between a measure and the accuracy of
sampled architectures.
"""

from .records import StudyFolder
from .report import TABLE_WIDTH, markdown_report, screen_table, summarise
from .sampling import Sampled, sample_architectures
from .statistics import Correlation, correlate
from .training import train_and_test, training_config

__all__ = [
    'TABLE_WIDTH',
    'Correlation',
    'Sampled',
    'StudyFolder',
    'correlate',
    'markdown_report',
    'sample_architectures',
    'screen_table',
    'summarise',
    'train_and_test',
    'training_config',
]
