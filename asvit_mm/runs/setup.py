"""What both runs check and prepare before they measure anything."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..arch import PRESETS
from ..config_writer.naming import RunConfigs
from ..data.images import load_images
from ..data.source import DataSource, describe_data
from ..errors import InputError
from ..nas import ComplexityMeasure
from ..ops import attention
from ..utils.files import existing_folder
from ..version import __version__
from .settings import (
    JobSettings,
    MeasuringSettings,
    RunSettings,
    check_at_least,
    default_pixels,
    find_device,
)

__all__ = [
    'JobSettings',
    'MeasuringSettings',
    'check_at_least',
    'check_writable',
    'default_pixels',
    'find_device',
    'prepare',
    'relative',
    'versions',
]


def prepare(settings: MeasuringSettings) -> tuple[DataSource, ComplexityMeasure]:
    """The data that configs train on, and the measure on images of it.

    Raises:
        InputError: missing or too few images, or data that no config can be written for.
    """
    data = describe_data(settings.data, settings.pixels)
    if isinstance(settings, RunSettings):
        RunConfigs(data, progressive=settings.progressive).add(
            PRESETS['seed']
        )  # fails now or never
    count = settings.repeat * settings.batch_size
    images = load_images(data.images, settings.pixels, count, settings.seed)
    measure = ComplexityMeasure(
        images.reshape(settings.repeat, settings.batch_size, *images.shape[1:]),
        img_size=settings.pixels,
        seed=settings.seed,
        device=find_device(settings.device),
    )
    return data, measure


def versions(device: torch.device) -> dict[str, str]:
    """What decides the last digits of a result, as plain data."""
    found = {
        'asvit_mm': __version__,
        'python': platform.python_version(),
        'torch': torch.__version__,
    }
    for name in ('numpy', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain'):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = 'not installed'
    found['device'] = (
        torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()
    )
    found['attention'] = 'asvit_mm' if device.type == 'cpu' and attention.has_kernel() else 'torch'
    return found


def relative(path: Path) -> str:
    """``path`` as it is shortest to type: relative where it lies in the current directory."""
    # Symbolic links stay: .venv/bin/python is one, and what it points to is another interpreter.
    path = Path.cwd() / path
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def check_writable(path: Path, option: str = '--json') -> None:
    """Refuse a file that cannot be written, before anything is measured; ``option`` names it.

    Raises:
        InputError: its folder cannot be written to.
    """
    folder = existing_folder(path)
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f'{option} {str(path)!r} cannot be written: give a file in another folder')
