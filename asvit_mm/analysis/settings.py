"""Settings of the studies and benchmarks: a field is a flag of the tool, the string below it its help.

Imports nothing heavy: a tool's ``-h`` must not wait for torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from ..runs.settings import (
    MAX_NETWORK_IMAGES,
    MAX_STEPS,
    JobSettings,
    MeasuringSettings,
    find_device,
)
from ..token_schedule import PUBLISHED, read_schedule
from ..tokens import MAX_SIZE, as_pair
from ..utils.command_line import check_values, option, positional
from ..utils.files import check_writable

Mode = Literal['inference', 'training']
Dtype = Literal['float32', 'bfloat16', 'float16']
MAX_PROCESSES, MAX_ARCHS = 1024, 10_000

CONFIGS = Path(__file__).parents[2] / 'configs'
# Fields of a config that a comparison of schedules lets the user change: the rest is the study's own.
OPTIONS = ('model', 'data_preprocessor', 'train_dataloader', 'optim_wrapper', 'param_scheduler')
CLASSIFIERS = (
    *('small', 'base', 'large'),
    *(f'mmpretrain:swin-{size}_16xb64_in1k' for size in ('tiny', 'small', 'base')),
    *(f'mmpretrain:convnext-{size}_32xb128_in1k' for size in ('tiny', 'small', 'base')),
)
ZOO = (
    'asvit-3.0m-10mf_b64-progressive_digits',
    'asvit-2.6m-33mf_b64_mnist5k',
    'asvit-small_8xb128_in1k',
)
_CASCADE = '4conv1fc-giou_amp-ms-crop-3x_coco.py'
DETECTORS = (
    *(str(CONFIGS / f'coco/mask-rcnn_asvit-{size}_fpn_1x_coco.py') for size in 'sb'),
    'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
    'mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    *(str(CONFIGS / f'coco/cascade-mask-rcnn_asvit-{size}_fpn_{_CASCADE}') for size in 'sbl'),
    *(f'mmdet::convnext/cascade-mask-rcnn_convnext-{size}-p4-w7_fpn_{_CASCADE}' for size in 'ts'),
    str(CONFIGS / 'asvit_coco.py'),
)


@dataclass(frozen=True)
class BenchBudget:
    """Limits, how many networks within them are trained, and on what.

    Args:
        networks: how many are trained.
        twice: how many of them, the first ones, with a second seed.
        strides: of the patch embedding; each network draws one.
        img_size: pixels per side.
        epochs: of every training.
        classes: of the images.
    """

    name: str
    max_params: int
    max_macs: int
    networks: int = 60
    twice: int = 20
    strides: tuple[int, ...] = (2, 4)
    img_size: int = 32
    epochs: int = 20
    classes: int = 10


BUDGETS = {
    budget.name: budget
    for budget in (
        BenchBudget('cifar10-small', 1_500_000, 15_000_000),
        BenchBudget('cifar10-large', 3_000_000, 40_000_000),
        # At stride 2 this budget would leave widths of 4 and 8.
        BenchBudget(
            'imagenette128',
            3_000_000,
            80_000_000,
            networks=30,
            twice=10,
            strides=(4,),
            img_size=128,
            epochs=15,
        ),
    )
}


# ---- Studies


@dataclass(frozen=True, kw_only=True)
class StudySettings(JobSettings):
    """Settings that all studies share; bad values of any settings here raise an :class:`InputError`."""

    threads: int = option(default=1, at_least=1, at_most=MAX_PROCESSES)
    """of torch on the CPU, in each process; part of the study, since sums depend on it in the last digits"""


@dataclass(frozen=True, kw_only=True)
class TrainingStudySettings(StudySettings):
    """Settings of a study that trains networks."""

    data: str = 'digits'
    """to train on (and to measure on): digits (of scikit-learn), an image folder (train/ and val/ with class
    folders) or an mmpretrain config"""
    workers: int = option(default=0, at_least=0, at_most=MAX_PROCESSES)
    """processes that load the images of a training; 0: the one that trains"""


@dataclass(frozen=True, kw_only=True)
class CorrelateSettings(TrainingStudySettings, MeasuringSettings):
    """Settings of the study of what the measures predict."""

    work_dir: str = 'work_dirs/correlate'
    # torchrun takes --num for an abbreviation of its own options.
    num_archs: int = option(default=40, aliases=('--num',), at_least=3, at_most=MAX_ARCHS)
    """architectures; under torchrun it must be written --num-archs"""
    strata: int = 4
    """parts by parameter count, equally many architectures of each"""
    epochs: int = option(default=8, at_least=1)
    """that each architecture is trained for"""
    measures: Sequence[str] = ('all',)
    """names of measures, or all"""


@dataclass(frozen=True, kw_only=True)
class SeedPercentileSettings(StudySettings, MeasuringSettings):
    """Settings of the study of how named seeds rank among random ones."""

    archs: Sequence[str] = positional(default=('seed',), nargs='*', metavar='[NAME=]ARCH')
    """seeds to rank: preset, architecture string or result.json of a search, with a name for the report or
    without (default: seed, the published one)"""
    work_dir: str = 'work_dirs/seed_percentiles'
    num_archs: int = option(default=200, aliases=('--num',), at_least=2, at_most=MAX_ARCHS)
    """random seeds; under torchrun it must be written --num-archs"""

    def fingerprint(self) -> dict[str, Any]:
        """As of every study; a resumed one may name other architectures."""
        values = super().fingerprint()
        del values['archs']
        return values


@dataclass(frozen=True, kw_only=True)
class MethodsSettings(StudySettings, MeasuringSettings):
    """Settings of the comparison of search methods."""

    work_dir: str = 'work_dirs/compare'
    data: str = 'digits'
    repeat: int = 1
    seeds: int = option(default=5, at_least=2)
    """searches of each method, from --seed on; each result is measured with the images and curves of the
    others"""
    steps: int = option(default=500, at_least=1, at_most=MAX_STEPS)
    """of each search"""
    reference: int = option(default=200, at_least=2, at_most=MAX_ARCHS)
    """random seeds that scores are percentiles among"""


@dataclass(frozen=True, kw_only=True)
class SchedulesSettings(TrainingStudySettings):
    """Settings of the comparison of schedules."""

    arch: str = positional(default='seed')
    """preset or architecture"""
    work_dir: str = 'work_dirs/schedules'
    schedules: Sequence[str] = tuple(PUBLISHED)
    """published ones by name, or stride@end,... (epochs or shares of the run), such as
    16@0.25,8@0.5,4@1.0, or with a dilation, 16/1@0.25,8@0.5,4@1.0, a factor of the learning rate,
    16*0.5@0.5,4@1.0, or several strides in turn, 16|8|4@1.0; beside training without one"""
    seeds: int = option(default=3, at_least=1)
    """trainings with each, from --seed on"""
    epochs: int | None = option(default=None, at_least=1)
    """of each (default: those of the data's recipe)"""
    cfg_options: Sequence[str] = option(default=(), metavar='KEY=VALUE')
    """override settings of the config of every training: pairs with dotted keys, e.g.
    optim_wrapper.optimizer.lr=1e-3"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.schedules:
            read_schedule(name)
        for given in self.cfg_options:
            key, equals, _ = given.partition('=')
            if equals and key.split('.')[0] not in OPTIONS:
                raise InputError(
                    f'--cfg-options {key}: a study decides all but {", ".join(OPTIONS)}; see --epochs, '
                    '--seed and --schedules'
                )


# ---- Counting


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """Settings of counting: the whole of what schedules of progressive tokenization cost takes."""

    config: str = positional()
    """path of a config, for models of any kind also mmdet::FOLDER/NAME.py: one that mmdet ships"""
    json: str | None = option(default=None, metavar='FILE')
    """file to write the figures to"""
    cfg_options: Sequence[str] = option(default=(), metavar='KEY=VALUE')
    """override settings of the config: pairs with dotted keys, e.g. model.backbone.arch=base"""

    def __post_init__(self) -> None:
        check_writable(self.json)  # before anything is counted


@dataclass(frozen=True, kw_only=True)
class FlopsSettings(CostSettings):
    """Settings of counting a model."""

    shape: Sequence[int] | None = None
    """pixels of the image: a side, or height and width (default: the backbone's img_size)"""


# ---- Benchmarks


@dataclass(frozen=True, kw_only=True)
class TimingSettings:
    """Settings that the benchmarks share."""

    device: Literal['cpu', 'cuda'] = 'cpu'
    """where models run"""
    rounds: int = option(default=9, at_least=1)
    """timed calls of each model, in turn"""
    threads: int | None = option(default=None, at_least=1, at_most=MAX_PROCESSES)
    """CPU threads (default: torch's)"""
    json: str | None = option(default=None, metavar='FILE')
    """file to write the figures to"""

    def __post_init__(self) -> None:
        check_values(self)
        find_device(self.device)
        check_writable(self.json)  # before anything is timed


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(TimingSettings):
    """Settings of timing models; every combination of mode, type and size makes a table."""

    models: Sequence[str] = positional(default=CLASSIFIERS, nargs='*')
    """presets of ours or architectures, mmpretrain:CONFIG_NAME, mmdet:CONFIG_NAME (its backbone) or
    timm:MODEL_NAME (default: our family, Swin and ConvNeXt of its sizes)"""
    mode: Sequence[Mode] = ('inference',)
    """forward pass, or forward, backward and AdamW step"""
    dtype: Sequence[Dtype] = ('float32',)
    """float32, or autocast"""
    compile: Sequence[Literal['no', 'yes']] = ('no',)
    """yes: through torch.compile; both: every model as it is and compiled, in turn in the same rounds"""
    batch_size: int = option(default=8, at_least=1, at_most=MAX_NETWORK_IMAGES)
    """images per call"""
    size: Sequence[str] = ('224',)
    """pixels: 384, or 224x320 (height x width)"""
    memory: bool = False
    """peak memory too"""
    options: Sequence[str] = option(default=(), metavar='KEY=VALUE')
    """settings of our backbones: with_cp=True window_size=[32,32,16,8]"""
    plot: str | None = option(default=None, metavar='FILE')
    """draw ms per billion multiply-adds into this file (PNG)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.size:
            parse_size(text)
        check_writable(self.plot, '--plot')


@dataclass(frozen=True, kw_only=True)
class DetectorSettings(TimingSettings):
    """Settings of timing detectors."""

    configs: Sequence[str] = positional(default=DETECTORS, nargs='*', metavar='CONFIG')
    """path of a detector's config, or mmdet::FOLDER/NAME.py (default: Mask and Cascade Mask R-CNN with our
    backbones, mmdet's Swin and ConvNeXt)"""
    shape: Sequence[int] = (800, 1344)
    """pixels of the image: a side, or height and width (default: 800 1344, COCO's padded)"""
    rounds: int = option(default=3, at_least=1)


@dataclass(frozen=True, kw_only=True)
class FormatSettings(TimingSettings):
    """Settings of comparing export formats."""

    models: Sequence[str] = positional(default=ZOO, nargs='*')
    """classifiers of the zoo; one without weights has random ones and no accuracy"""
    formats: Sequence[Literal['onnx', 'onnx-int8', 'openvino', 'torch']] = (
        'onnx',
        'onnx-int8',
        'openvino',
    )
    """of tools/model_converters/export.py"""
    device: Literal['cpu'] = 'cpu'
    """where they run"""


@dataclass(frozen=True, kw_only=True)
class TokenizationSettings(TimingSettings):
    """Settings of timing training steps at each token stride."""

    models: Sequence[str] = positional(default=('small', 'base', 'large'), nargs='*')
    """presets or architectures"""
    dtype: Dtype = 'float32'
    """float32, or autocast"""
    batch_size: int = option(default=8, at_least=1, at_most=MAX_NETWORK_IMAGES)
    """images per step"""
    size: int = option(default=224, at_least=4, at_most=MAX_SIZE)
    """pixels a side"""


def parse_size(text: str) -> tuple[int, int]:
    """'384' or '224x320' as (height, width).

    Raises:
        InputError: it is neither.
    """
    parts = text.lower().split('x')
    if len(parts) > 2 or not all(part.isdecimal() and 0 < len(part) < 9 for part in parts):
        raise InputError(f'--size {text!r} is not pixels: write 224 or 224x320')
    return as_pair((int(parts[0]), int(parts[-1])), '--size')


@dataclass(frozen=True, kw_only=True)
class RefereeSettings(StudySettings):
    """Settings of the study that judges measures by the accuracies of a benchmark table."""

    table: str = positional()
    """benchmark table, by path: OoD-ViT-NAS or our own (.json), ViT-Bench-101 (.pth) or timm's results
    (.csv); bench: our own, as it comes with the package"""
    work_dir: str = 'work_dirs/referee'
    target: str | None = None
    """accuracy of the table to judge by, of our own the budget (default: its first)"""
    networks: int = option(default=100, at_least=8)
    """of the table, at most, in an order drawn with the seed; more can be added with --resume"""
    repeat: int = option(default=3, at_least=1)
    """fresh networks of each of the first --repeated ones, for the noise; of all others one is measured"""
    repeated: int = option(default=16, at_least=0)
    """networks that are measured --repeat times and on noise too"""
    batch_size: int = option(default=16, at_least=2)
    """images per network"""

    def fingerprint(self) -> dict[str, Any]:
        """As of every study; a resumed one may measure more networks and judge by another accuracy."""
        values = super().fingerprint()
        for name in ('table', 'target', 'networks'):
            del values[name]
        return values


@dataclass(frozen=True, kw_only=True)
class BudgetTrainingSettings:
    """Settings of training networks of the table's budgets by the table's recipe."""

    data: str
    """image folder with train/ and test/ (or val/) of class folders"""
    device: str = 'auto'
    """cpu, cuda, cuda:1 or auto: cuda if there is one (default)"""
    together: int = option(default=1, at_least=1)
    """networks that train side by side; more than one pays on a GPU only"""
    part: str = '1/1'
    """K/N: this process trains the K-th of N parts"""
    minutes: float = 1e9
    """start no training after this time (default: no limit)"""

    def __post_init__(self) -> None:
        check_values(self)
        share, count = self.share
        if not 0 <= share < count:
            raise InputError(f'--part {self.part!r} is no part: give K/N, such as 2/4')

    @property
    def share(self) -> tuple[int, int]:
        """Number of the part, from 0, and how many there are."""
        number, slash, count = self.part.partition('/')
        if not (slash and number.isdecimal() and count.isdecimal()):
            raise InputError(f'--part {self.part!r} is no part: give K/N, such as 2/4')
        return int(number) - 1, int(count)


@dataclass(frozen=True, kw_only=True)
class BenchSettings(BudgetTrainingSettings):
    """Settings of training the table of networks."""

    work_dir: str = 'work_dirs/bench'
    """folder of the records and of table.json; records that are there are kept"""
    budgets: Sequence[str] = ('cifar10-small', 'cifar10-large')
    """which budgets' networks; their images are --data"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.budgets:
            if name not in BUDGETS:
                raise InputError(f'no budget is called {name!r}: choose from {", ".join(BUDGETS)}')


@dataclass(frozen=True, kw_only=True)
class OutcomeSettings(BudgetTrainingSettings):
    """Settings of training what searches found, to compare it with the table's networks."""

    found: Sequence[str] = positional(nargs='+', metavar='BUDGET=FOUND')
    """budget of the table, and what was found within it: the work dir of a search or scaling, its
    result.json, or an architecture string"""
    work_dir: str = 'work_dirs/outcome'
    """folder of the records and of report.json; records that are there are kept"""
    seeds: int = option(default=3, at_least=1)
    """trainings of each network, from seed 0 on"""
    table: str | None = option(default=None, metavar='FILE')
    """table.json of the networks to compare with (default: the package's)"""


@dataclass(frozen=True, kw_only=True)
class TrainNetworksSettings:
    """Settings of training networks and peers side by side."""

    networks: Sequence[str] = positional(nargs='+', metavar='NETWORK')
    """architecture strings, presets, or resnet and swin for peers of about 40 M multiply-adds"""
    data: str
    """image folder with train/ and test/ (or val/) of class folders"""
    work_dir: str = 'work_dirs/networks'
    """folder of the checkpoints and of results.json"""
    img_size: int = option(default=32, at_least=4)
    """pixels per side"""
    epochs: int = option(default=40, at_least=1)
    """of every training"""
    batch: int = option(default=256, at_least=1)
    """images per step; the learning rate is 1e-3 per 128 of them"""
    strong: bool = False
    """vary colours, erase squares and mix images by CutMix"""
    seed: int = option(default=0, at_least=0)
    """of the weights and of the data's order"""
    device: str = 'auto'
    """cpu, cuda, cuda:1 or auto: cuda if there is one (default)"""

    def __post_init__(self) -> None:
        check_values(self)
