"""What both runs check and prepare before they measure anything."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..arch import PRESETS
from ..config_writer.naming import RunConfigs
from ..data.images import load_images
from ..data.source import DataSource, describe_data
from ..engine.config import load_config
from ..errors import InputError
from ..nas import ComplexityMeasure
from ..ops import attention
from ..utils.files import existing_folder
from ..version import __version__

DEFAULT_SIZE = 224
DIGITS_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What a job works on, and where its results go.

    Args:
        work_dir: folder for everything that is written.
        data: digits, noise, an image folder or an mmpretrain config.
        img_size: pixels a side; None: 32 for the digits, what a config's backbone is made for, else 224.
        seed: decides images, curves, weights and samples.
        device: 'cpu', 'cuda', 'cuda:1' or 'auto'.
        overwrite: whether results of an earlier run in ``work_dir`` are replaced.

    Raises:
        InputError: a value out of range, or a device that is not there.
    """

    work_dir: str
    data: str = 'noise'
    img_size: int | None = None
    seed: int = 0
    device: str = 'auto'
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_at_least('--img-size', self.pixels, 4)
        check_at_least('--seed', self.seed, 0)
        find_device(self.device)

    @property
    def pixels(self) -> int:
        """Pixels a side of the images."""
        if self.img_size is not None:
            return self.img_size
        return default_pixels(self.data)


@dataclass(frozen=True, kw_only=True)
class MeasuringSettings(JobSettings):
    """How a job measures networks.

    Args:
        batch_size: images of a network.
        repeat: networks to average over.
        progressive: whether configs are written with progressive tokenization.

    Raises:
        InputError: a value out of range.
    """

    batch_size: int = 16
    repeat: int = 5
    progressive: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        # A single gradient has no condition number.
        check_at_least('--batch-size', self.batch_size, 2)
        check_at_least('--repeat', self.repeat, 1)


def default_pixels(data: str) -> int:
    """Pixels a side of the images of ``data``, where the user does not say.

    Raises:
        InputError: a config that cannot be read.
    """
    if data == 'digits':
        return DIGITS_SIZE
    if data.endswith('.py') and Path(data).is_file():
        backbone = (load_config(data).get('model') or {}).get('backbone') or {}
        size = backbone.get('img_size')
        if type(size) is int:
            return size
    return DEFAULT_SIZE


def check_at_least(name: str, value: int, smallest: int) -> None:
    """Refuse a value below ``smallest``.

    Raises:
        InputError: it is.
    """
    if value < smallest:
        raise InputError(f'{name} {value} is too small: give at least {smallest}')


def find_device(name: str) -> torch.device:
    """The device of that name; 'auto' is cuda where there is one.

    Raises:
        InputError: no such device here.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f'--device {name!r} is no device: give cpu, cuda, cuda:1 or auto'
        ) from None
    if device.type not in ('cpu', 'cuda'):
        raise InputError(f'--device {name!r} is not supported: give cpu, cuda, cuda:1 or auto')
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f'--device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA '
            'devices that torch can use; give --device cpu'
        )
    return device


def prepare(settings: MeasuringSettings) -> tuple[DataSource, ComplexityMeasure]:
    """The data that configs train on, and the measure on images of it.

    Raises:
        InputError: missing or too few images, or data that no config can be written for.
    """
    data = describe_data(settings.data, settings.pixels)
    RunConfigs(data, progressive=settings.progressive).add(PRESETS['seed'])  # fails now or never
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
    own = device.type == 'cpu' and attention.has_kernel()
    found['attention'] = 'asvit_mm' if own else 'torch'
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
