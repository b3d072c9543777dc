"""Writing down what was found: configs that train it, pictures of how it was found."""

from ..config_writer.configs import (
    config_text,
    fitting_phases,
    progressive_phases,
    train_command,
    write_config,
)
from ..config_writer.detection import detection_text
from ..config_writer.naming import RunConfigs, network_names
from ..data.source import DataSource, describe_data
from ..report.plots import plot_learning_curve, plot_scaling, plot_search
from ..report.report import write_scale_report, write_search_report

__all__ = [
    'DataSource',
    'RunConfigs',
    'config_text',
    'describe_data',
    'detection_text',
    'fitting_phases',
    'network_names',
    'plot_learning_curve',
    'plot_scaling',
    'plot_search',
    'progressive_phases',
    'train_command',
    'write_config',
    'write_scale_report',
    'write_search_report',
]
