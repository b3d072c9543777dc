"""Writing down what was found: configs that train it, pictures of how it was found."""

from .configs import config_name, config_text, progressive_phases, train_command, write_config
from .datasets import DataSource, describe_data
from .plots import plot_learning_curve, plot_scaling, plot_search

__all__ = [
    'DataSource',
    'config_name',
    'config_text',
    'describe_data',
    'plot_learning_curve',
    'plot_scaling',
    'plot_search',
    'progressive_phases',
    'train_command',
    'write_config',
]
