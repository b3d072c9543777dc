"""Settings of the jobs: one field for each, read as flags by the tools and as arguments by the Python API.

The string below a field is its help. A value out of range is refused with an :class:`InputError` when the
settings are created. Imports nothing heavy: a tool's ``-h`` must not wait for torch.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ..arch import BASE_STRIDE, PRESETS, STRIDE_CHOICES, Architecture
from ..data.source import DEFAULT, DataSource, describe_data
from ..errors import InputError
from ..utils.command_line import POSITIONAL, check_values, option, positional
from ..utils.units import parse_count

if TYPE_CHECKING:
    import torch

MIN_PARAMS = '80M'
MAX_PARAMS = '110M'
# Larger values are typing errors: they would take days, or more memory than there is.
MAX_MEASURED_SIZE, MAX_NETWORK_IMAGES, MAX_STEPS = 2048, 4096, 10**6
MAX_SEED = 2**31 - 1  # numpy's seeds end at 2**32, and trainings add to it

# Those of asvit_mm.nas.METHODS, which takes a second to import; Python may add further ones there.
METHOD_NAMES = ('reinforce', 'evolution', 'random')

Count = str | int
Launcher = Literal['none', 'pytorch']
Runtime = Literal['torch', 'onnxruntime', 'openvino']
Dtype = Literal['float32', 'float64']
Task = Literal['auto', 'classification', 'detection']


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """What is measured on, and where.

    Raises:
        InputError: a value out of range, or a device that is not there.
    """

    data: str | None = None
    """images for the NTK condition number and what the configs train on: an image folder (class folders, or
    train/ and val/ with them), an mmpretrain config, digits (of scikit-learn), photographs (crops of two that
    scikit-learn ships) or noise (default: photographs)"""
    img_size: int | None = option(default=None, at_least=4, at_most=MAX_MEASURED_SIZE)
    """pixels per side of the images (default: 32 for digits, a config's own, a folder's images', at most
    224)"""
    seed: int = option(default=0, at_least=0, at_most=MAX_SEED)
    """of the images, circles, weights and samples"""
    device: str = 'auto'
    """cpu, cuda, cuda:1 or auto: cuda if there is one (default)"""

    def __post_init__(self) -> None:
        check_values(self)
        find_device(self.device)

    @cached_property
    def source(self) -> DataSource:
        """What ``data`` means, see :func:`~asvit_mm.data.source.describe_data`."""
        return describe_data(DEFAULT if self.data is None else self.data, self.img_size)

    @property
    def pixels(self) -> int:
        """Pixels per side of the images."""
        return self.source.pixels


@dataclass(frozen=True, kw_only=True)
class JobSettings(InputSettings):
    """What a job works on, and where its results go."""

    work_dir: str
    """folder of the results"""
    launcher: Launcher = 'none'
    """pytorch: started by torchrun, whose processes share the work"""
    resume: bool = False
    """continue the run in the work dir, which may have been killed at any moment"""
    overwrite: bool = False
    """replace the earlier results in the work dir"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume and self.overwrite:
            raise InputError('--resume keeps what is there and --overwrite removes it: give one')

    def fingerprint(self) -> dict[str, Any]:
        """The settings that determine the result, as plain data; a resumed job must have the same."""
        values = asdict(self)
        for name in ('work_dir', 'launcher', 'resume', 'overwrite'):
            del values[name]
        return {
            **values,
            'data': self.source.spec,
            'img_size': self.pixels,
            'device': find_device(self.device).type,
        }


@dataclass(frozen=True, kw_only=True)
class MeasuringSettings(JobSettings):
    """Settings of a job that measures networks."""

    # A single gradient has no condition number.
    batch_size: int = option(default=16, at_least=2, at_most=MAX_NETWORK_IMAGES)
    """images per network"""
    repeat: int = option(default=5, at_least=1, at_most=MAX_NETWORK_IMAGES)
    """networks to average over"""


@dataclass(frozen=True, kw_only=True)
class RunSettings(MeasuringSettings):
    """Settings that a search and a scaling run share."""

    max_params: Count | None = option(default=None, metavar='N')
    """no network has more parameters, such as 3M, with the classes of the data (default: no limit)"""
    max_flops: Count | None = option(default=None, metavar='N')
    """no network has more multiply-adds per image, such as 5G or 400M (default: no limit)"""
    max_latency: float | None = option(default=None, metavar='MS')
    """no network takes more milliseconds per image, timed on the device (default: no limit)"""
    latency_runtime: Runtime = 'torch'
    """that networks are timed in for --max-latency: eager torch, or what runs their export on the CPU"""
    remeasure: bool = False
    """measure an architecture that comes again anew, with fresh weights, as the published code does (default:
    reuse its measurement)"""
    progressive: bool = False
    """write configs that train with progressive tokenization"""
    finalists: int | None = option(default=None, at_least=2)
    """networks that are trained for a while on the data, in a race whose winner is the result (default: no
    network is trained)"""
    race_minutes: float = 20.0
    """minutes that the race of the finalists takes, as estimated when it begins"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.race_minutes < math.inf:
            raise InputError(
                f'--race-minutes {self.race_minutes} is no time: give minutes, such as 20'
            )
        if self.latency_runtime == 'torch':
            return
        if self.max_latency is None:
            raise InputError('--latency-runtime is for --max-latency MS: give that, too')
        if find_device(self.device).type != 'cpu':
            raise InputError(
                f'--latency-runtime {self.latency_runtime} runs on the CPU: give --device cpu'
            )

    def fingerprint(self) -> dict[str, Any]:
        """As of every job, with limits as numbers."""
        values = super().fingerprint()
        if self.latency_runtime == 'torch':  # as in runs from before there was a choice
            del values['latency_runtime']
        values['max_params'] = as_count(self.max_params)
        values['max_flops'] = as_count(self.max_flops, 'multiply-adds')
        return values


@dataclass(frozen=True, kw_only=True)
class SearchSettings(RunSettings):
    """Settings of a search; ``method`` is a key of :data:`asvit_mm.nas.METHODS`."""

    work_dir: str = 'work_dirs/search'
    """folder of the results"""
    steps: int = option(default=500, at_least=1, at_most=MAX_STEPS)
    """architectures to measure"""
    method: str = option(default='reinforce', choices=METHOD_NAMES)
    """the paper's, or one of two to compare it with"""
    base_stride: int = option(default=BASE_STRIDE, choices=STRIDE_CHOICES)
    """pixels between two tokens of stage 1; for images of about 32 pixels 2 is worth a try"""


@dataclass(frozen=True, kw_only=True)
class ScaleSettings(RunSettings):
    """Settings of a scaling run, with targets or with the two limits that they replace."""

    arch: str | Architecture = field(kw_only=False, metadata=POSITIONAL)
    """architecture ('8,2,3|4,1,2|4,1,4|4,1,6|32'), preset (seed, small, ...) or the result.json of a search,
    whose data, image size and limits hold unless others are given; kernels, splits, expansions and heads are
    scaled"""
    work_dir: str = 'work_dirs/scale'
    """folder of the results"""
    min_params: Count | None = option(default=None, metavar='N')
    """stop at the first network with this many parameters (default: 80M; where a limit is given: grow until
    every larger network exceeds it)"""
    max_params: Count | None = option(default=None, metavar='N')
    """no network has more parameters (default: 110M)"""
    targets: Sequence[Count] = option(default=(), metavar='N')
    """instead of the two: scale up to each of these numbers of parameters, such as 29M 52.6M 88.1M, and give
    the best network of each"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.targets, list | tuple):
            raise InputError(f"targets {self.targets!r} is not a list: give ['29M'], or several")
        if self.targets and (self.min_params, self.max_params) != (None, None):
            raise InputError(
                '--targets are limits themselves: leave out --min-params and --max-params'
            )


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(InputSettings):
    """Settings of measuring a list of architectures."""

    archs: Sequence[str] = positional(default=(), nargs='*', metavar='ARCH')
    """presets (seed, small, base, large) or architecture strings, measured at their own depths and width; or
    other untrained models: timm:NAME, mmpretrain:CONFIG, MODULE:FUNCTION"""
    measures: Sequence[str] = option(default=(), metavar='NAME')
    """names of measures, or all (default: length_distortion ntk_condition_number params flops)"""
    list: bool = False
    """print the measures and stop"""
    repeat: int = option(default=5, at_least=1, at_most=MAX_NETWORK_IMAGES)
    """networks to average over"""
    batch_size: int = option(default=16, at_least=1, at_most=MAX_NETWORK_IMAGES)
    """images per network"""
    data: str | None = None
    """images for the measures that need some: an image folder, an mmpretrain config, digits (of
    scikit-learn), photographs (crops of two that scikit-learn ships) or noise (default: photographs)"""
    output: Literal['pooled', 'tokens'] = 'pooled'
    """of other models: the mean of the last tokens, or all of them"""
    memory: float | None = option(default=None, metavar='GIB')
    """GiB that activations may take: what needs more runs in parts (default: no limit); not for other
    models"""
    dtype: Dtype = 'float32'
    """precision of the networks"""
    json: str | None = option(default=None, metavar='FILE')
    """file to write settings and scores to"""

    def __post_init__(self) -> None:
        if self.list:
            return
        if not self.archs:
            raise InputError(
                f'no architecture to measure: give presets ({", ".join(PRESETS)}) or architecture '
                'strings, before --measures'
            )
        super().__post_init__()
        if self.memory is not None and not 0 < self.memory < math.inf:
            raise InputError(f'--memory {self.memory} is no limit: give GiB, such as 4 or 0.5')


@dataclass(frozen=True, kw_only=True)
class WriteConfigSettings:
    """Settings of writing the config of a named network on one's own data."""

    arch: str | Architecture = field(kw_only=False, metadata=POSITIONAL)
    """architecture ('8,2,3|4,1,2|4,1,4|4,1,6|32'), preset (seed, small, base, large), model of the zoo, or
    config with an AsViT backbone (.py)"""
    data: str
    """what to train on: an image folder, annotations in COCO's format (.json), digits, or an mmpretrain
    config"""
    task: Task = 'auto'
    """detection needs annotations in COCO's format, which are what auto decides by"""
    out: str | None = option(default=None, metavar='FILE')
    """the config to write (default: work_dirs/configs/NAME.py, named after the network and the data)"""
    overwrite: bool = False
    """replace a config of that name"""
    weights: str | None = option(default=None, metavar='FILE')
    """start from the backbone of this checkpoint, whatever its classes; zoo: that of the zoo's model"""
    img_size: int | None = option(default=None, at_least=4)
    """pixels per side of a classifier's images (default: those of the data, at most 224), or of the long side
    of a detector's (default: as they are, at most 1333)"""
    epochs: int | None = option(default=None, at_least=1)
    """length of the run, by which the strength of the augmentation is chosen (default: by the data)"""
    batch_size: int | None = option(default=None, at_least=1)
    """images a step and process (default: by the data)"""
    progressive: bool = False
    """train a classifier with progressive tokenization"""
    val: str | None = option(default=None, metavar='FILE')
    """detection: annotations to validate on (default: beside those of training, val for train in the name)"""
    images: str | None = option(default=None, metavar='FOLDER')
    """detection: folder of the images (default: looked for around the annotations)"""
    classes: Sequence[str] = option(default=(), metavar='NAME')
    """detection: categories to train on (default: all that have annotations)"""

    def __post_init__(self) -> None:
        check_values(self)
        if isinstance(self.classes, str):
            raise InputError(f'classes {self.classes!r} is not a list: give [{self.classes!r}]')


def as_count(value: Count | None, what: str = 'parameters') -> int | None:
    """A limit as it is typed ('3M', 3000000) as a number; None stays.

    Raises:
        InputError: not a positive number.
    """
    return None if value is None else parse_count(str(value), what)


def find_device(name: str) -> 'torch.device':
    """The device of that name; 'auto' is cuda where there is one.

    Raises:
        InputError: no such device here.
    """
    import torch

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
