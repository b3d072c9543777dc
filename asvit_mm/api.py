"""Search, scaling and configs from Python: tools/search.py, scale.py and write_config.py as functions.

    >>> found = asvit_mm.search(data='digits', steps=60, repeat=2)
    >>> series = asvit_mm.scale(found.architecture, data='digits', min_params='2.5M', max_params='4M')
    >>> config = asvit_mm.write_config(series.architecture, data='path/to/images')

Their arguments are the fields of the settings that the tools fill, whose types and defaults they share; a
mistake raises :class:`~asvit_mm.errors.InputError`, whose message is the tools' one line.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from .config_writer.shipped import shipped_tools
from .runs.results import Network, ScaleResult, SearchResult
from .runs.scale import run_scaling
from .runs.search import run_search
from .runs.settings import ScaleSettings, SearchSettings, WriteConfigSettings
from .runs.write_config import write_config as run_write_config
from .utils.command_line import field_help

__all__ = ['Network', 'ScaleResult', 'SearchResult', 'scale', 'search', 'write_config']

P = ParamSpec('P')
S = TypeVar('S')
R = TypeVar('R')


def _with_arguments(text: str, settings: Any) -> str:
    """A docstring with the fields of ``settings`` and their help as ``Args:``, before ``Raises:``."""
    helps = field_help(settings)
    arguments = [f'    {name}: {helps[name]}' for name in inspect.signature(settings).parameters]
    return text.replace('\n\nRaises:', '\n\nArgs:\n' + '\n'.join(arguments) + '\n\nRaises:')


def _takes(settings: Callable[P, S]) -> Callable[[Callable[[S], R]], Callable[P, R]]:
    """Give a function of settings the arguments of those settings: signature, types and help."""

    def decorate(function: Callable[[S], R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(settings(*args, **kwargs))

        own = inspect.signature(function)
        signature = inspect.signature(settings).replace(return_annotation=own.return_annotation)
        vars(call)['__signature__'] = signature
        call.__annotations__ = {
            **{name: parameter.annotation for name, parameter in signature.parameters.items()},
            'return': own.return_annotation,
        }
        call.__doc__ = _with_arguments(inspect.getdoc(function) or '', settings)
        return call

    return decorate


@_takes(SearchSettings)
def search(settings: SearchSettings) -> SearchResult:
    """Search a seed without training, or go on with a search (``resume=True``).

    Shows what tools/search.py shows and writes what it writes, into ``work_dir``: trace, result, configs
    and pictures. A search that is complete is not done again with ``resume=True``.

    Raises:
        InputError: a mistake in the arguments (nothing has been measured), results that are there
            already, or no network could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the search is and how to go on.
    """
    return run_search(settings, shipped_tools())


@_takes(ScaleSettings)
def scale(settings: ScaleSettings) -> ScaleResult:
    """Scale a seed without training into a series of networks, or go on with that (``resume=True``).

    Shows what tools/scale.py shows and writes what it writes, into ``work_dir``: trace, result, configs
    and pictures. A run that is complete is not done again with ``resume=True``.

    Raises:
        InputError: a mistake in the arguments (nothing has been measured), results that are there
            already, or no candidate of the first step could be measured.
        KeyboardInterrupt: Ctrl-C while measuring; says how far the run is and how to go on.
    """
    return run_scaling(settings, shipped_tools())


@_takes(WriteConfigSettings)
def write_config(settings: WriteConfigSettings) -> Path:
    """Write a config that trains a network on images of one's own, and return its path.

    Writes and prints what tools/write_config.py does.

    Raises:
        InputError: a mistake in the arguments; nothing has been written.
    """
    return run_write_config(settings, shipped_tools())
