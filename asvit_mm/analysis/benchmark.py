"""Speed of image models side by side: one counter of multiply-adds, one clock, rounds in turn.

Models are timed in turn, one call each a round, so that a machine whose speed drifts slows all of
them alike. A large matrix product is timed in the same rounds: its milliseconds per billion
multiply-adds are the floor that the device sets.
"""

import gc
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..arch import PRESETS
from ..errors import InputError
from ..models.inference import optimize_for_inference

# glibc gives a tensor's memory back to the system as soon as it is freed.
RETURN_MEMORY = {'MALLOC_MMAP_THRESHOLD_': '65536'}
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


@dataclass(frozen=True)
class Setting:
    """How models are run.

    Args:
        mode: ``'inference'`` (forward) or ``'training'`` (forward, backward, AdamW step).
        device: ``'cpu'`` or ``'cuda'``.
        dtype: ``'float32'``, or the autocast type ``'bfloat16'`` or ``'float16'``.
        compile: whether models go through ``torch.compile``.
        batch: images a call.
        size: (height, width) of an image in pixels.
        options: settings of our backbones, such as ``with_cp`` or ``window_size``.
    """

    mode: str = 'inference'
    device: str = 'cpu'
    dtype: str = 'float32'
    compile: bool = False
    batch: int = 8
    size: tuple[int, int] = (224, 224)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        height, width = self.size
        how = 'torch.compile' if self.compile else 'eager'
        return (
            f'{self.mode}, {self.device}, {self.dtype}, {how}, batch {self.batch}, {height}x{width}'
        )


@dataclass(frozen=True)
class Timing:
    """Figures of one model in one setting.

    Attributes:
        name: the model.
        macs: multiply-adds of one image's forward pass.
        params: parameters.
        seconds: median of a call.
        spread: third minus first quartile of the calls, as a share of the median.
        memory: peak bytes: allocated on a GPU, growth of the resident set of a process of its own on
            the CPU; None where not measured.
        floor: seconds of the device's large matrix product per multiply-add, in the same rounds.
        setting: how the model was run.
    """

    name: str
    macs: int
    params: int
    seconds: float
    spread: float
    memory: int | None
    floor: float
    setting: Setting

    @property
    def images_per_second(self) -> float:
        """Images a second."""
        return self.setting.batch / self.seconds

    @property
    def ms_per_gmac(self) -> float:
        """Milliseconds for a billion multiply-adds of the forward pass (training: of a whole step)."""
        return self.seconds * 1e3 / (self.setting.batch * self.macs / 1e9)

    @property
    def share_of_matmul(self) -> float:
        """The rate of multiply-adds as a share of the matrix product's (training: 3 forwards a step)."""
        passes = 3 if self.setting.mode == 'training' else 1
        return passes * self.floor * self.setting.batch * self.macs / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain data, derived figures included."""
        return {
            **asdict(self),
            'images_per_second': self.images_per_second,
            'ms_per_gmac': self.ms_per_gmac,
            'share_of_matmul': self.share_of_matmul,
        }


def count_multiply_adds(model: nn.Module, images: Tensor) -> int:
    """Multiply-adds of one forward pass: matrix products, convolutions and attention, fused or not.

    Counted by torch on the explicit form of attention, since its counter does not know the CPU's fused
    kernel; there no model computes more than it asks for.
    """
    return count_by_module(model, lambda: model(images))['']


def count_by_module(model: nn.Module, call: Callable[[], Any]) -> dict[str, int]:
    """Multiply-adds of what ``call`` computes, by the name of every module called in it; '' is all."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    root = type(model).__name__
    counts = {'': counter.get_total_flops() // 2}
    for name, operations in counter.get_flop_counts().items():
        if name.startswith(f'{root}.'):
            counts[name.removeprefix(f'{root}.')] = sum(operations.values()) // 2
    return counts


def build_model(name: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    """An image classifier or backbone, randomly initialised, by name.

    Args:
        name: a preset of ours (``small``), an architecture string, ``mmpretrain:CONFIG_NAME``,
            ``mmdet:CONFIG_NAME`` (its backbone) or ``timm:MODEL_NAME``.
        options: further arguments of our backbone.

    Raises:
        InputError: no such model.
    """
    source, _, model = name.partition(':')
    if not model:
        return _own_classifier(name, options or {})
    builders = {
        'mmpretrain': _mmpretrain,
        'mmdet': _mmdet_backbone,
        'timm': _timm,
    }
    if source not in builders:
        raise InputError(
            f'{name!r}: no such source; give a preset ({", ".join(PRESETS)}), an architecture, '
            'mmpretrain:NAME, mmdet:NAME or timm:NAME'
        )
    return builders[source](model)


def _own_classifier(arch: str, options: Mapping[str, Any]) -> nn.Module:
    from mmpretrain.registry import MODELS

    from ..arch import as_architecture

    width = as_architecture(arch).widths[-1]
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='asvit_mm.AsViT', arch=arch, **options),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='VisionTransformerClsHead',
                num_classes=1000,
                in_channels=width,
                hidden_dim=width,
            ),
        )
    )


def _mmpretrain(name: str) -> nn.Module:
    from mmpretrain import get_model

    try:
        return get_model(name, pretrained=False)
    except ValueError as error:
        raise InputError(f'mmpretrain:{name}: {error}') from None


def _mmdet_backbone(name: str) -> nn.Module:
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    from ..engine.config import mmdet_configs

    configs = mmdet_configs()
    found = sorted(configs.glob(f'**/{name}.py'))
    if not found:
        raise InputError(f'mmdet:{name}: no such config below {configs}')
    from mmdet.registry import MODELS

    backbone = Config.fromfile(found[0]).model.backbone
    backbone.init_cfg = None  # no download
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(backbone)


def _timm(name: str) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise InputError(f'timm:{name}: no such model')
    return timm.create_model(name)


class Contestant:
    """A model ready to be called again and again in one setting."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.name, self.setting = name, setting
        torch.manual_seed(0)
        self.images = torch.randn(setting.batch, 3, *setting.size).to(setting.device)
        # What is packed computes the same as the plain model, in operators that cannot be counted.
        plain = build_model(name.removeprefix('packed:'), setting.options).to(setting.device)
        self.params = sum(parameter.numel() for parameter in plain.parameters())
        plain.eval()
        self.macs = count_multiply_adds(plain, self.images[:1])
        plain.train(setting.mode == 'training')  # some backbones return None from it
        model = optimize_for_inference(plain) if name.startswith('packed:') else plain
        if setting.mode == 'training':
            self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        self.model: Callable[[Tensor], Any] = torch.compile(model) if setting.compile else model

    def call(self) -> None:
        """One forward pass, or one training step."""
        training = self.setting.mode == 'training'
        with torch.enable_grad() if training else torch.inference_mode():
            with _autocast(self.setting):
                outputs = self.model(self.images)
                if not training:
                    return
                outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
                # A sum has a gradient of one value everywhere, which a softmax head would cancel.
                loss = sum(output.float().square().mean() for output in outputs)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


def run(
    names: Sequence[str],
    setting: Setting,
    *,
    rounds: int = 9,
    warmup: int = 3,
    memory: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> list[Timing]:
    """Time models side by side.

    Args:
        names: see :func:`build_model`; ``packed:`` before one of ours (inference only) runs it through
            :func:`~asvit_mm.models.inference.optimize_for_inference`.
        rounds: calls of each model, in turn.
        warmup: calls of each before the first round.
        memory: whether peak memory is measured too (CPU: in a process of its own for each model).
        report: told what is being done.

    Raises:
        InputError: an unknown model, or a device that is not there.
    """
    plain_only = setting.mode == 'training' or setting.dtype != 'float32' or setting.compile
    if plain_only and any(name.startswith('packed:') for name in names):
        raise InputError('packed: models run float32 inference, eager; leave them out otherwise')
    if setting.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('device cuda: torch finds no CUDA device; use --device cpu')
    contestants = []
    for name in names:
        report(f'warm-up of {name} ({setting})')
        contestants.append(Contestant(name, setting))
        for _ in range(warmup):
            contestants[-1].call()
    product, product_macs = matrix_product(setting)
    product()
    calls = [product, *(contestant.call for contestant in contestants)]
    seconds = time_in_turn(calls, setting.device, rounds, report)
    floor = statistics.median(seconds[0]) / product_macs
    peaks = [_gpu_peak(c) if memory and setting.device == 'cuda' else None for c in contestants]
    timings = []
    for contestant, taken, peak in zip(contestants, seconds[1:], peaks, strict=True):
        median, spread = median_and_spread(taken)
        macs, params = contestant.macs, contestant.params
        timings.append(Timing(contestant.name, macs, params, median, spread, peak, floor, setting))
    return timings


def device_name(device: str) -> str:
    """What figures of ``device`` ('cpu' or 'cuda') were measured on, in words."""
    if device == 'cuda' and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    capability = torch.backends.cpu.get_cpu_capability()
    return f'{platform.machine()} CPU, {torch.get_num_threads()} threads, {capability}'


def time_in_turn(
    calls: Sequence[Callable[[], Any]],
    device: str,
    rounds: int,
    report: Callable[[str], None] = lambda text: None,
) -> list[list[float]]:
    """Seconds of each call in each round; a round makes every call once, in turn."""
    seconds: list[list[float]] = [[] for _ in calls]
    for i in range(rounds):
        report(f'round {i + 1} of {rounds}')
        for call, taken in zip(calls, seconds, strict=True):
            taken.append(_clock(call, device))
    return seconds


def median_and_spread(seconds: Sequence[float]) -> tuple[float, float]:
    """The median, and the third minus the first quartile as a share of it."""
    median = statistics.median(seconds)
    quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [median] * 3
    return median, (quartiles[2] - quartiles[0]) / median


def matrix_product(setting: Setting) -> tuple[Callable[[], Any], int]:
    """A large square matrix product in the setting's type, and its multiply-adds."""
    side = 8192 if setting.device == 'cuda' else 2048
    dtype = DTYPES[setting.dtype]
    left, right = (torch.randn(side, side, device=setting.device, dtype=dtype) for _ in range(2))
    return (lambda: left @ right), side**3


def cpu_peak(name: str, setting: Setting) -> int:
    """Peak of this process's resident set over a second call above what it was before, in bytes (Linux).

    The first call leaves what stays, such as the optimizer's state. Run it in a process of its own with
    :data:`RETURN_MEMORY` in its environment, or what the first call's tensors leave with the
    allocator is not seen.

    Raises:
        InputError: the system does not tell its processes' peaks.
    """
    contestant = Contestant(name, setting)
    contestant.call()
    gc.collect()
    status, clear = Path('/proc/self/status'), Path('/proc/self/clear_refs')
    if not clear.exists():
        raise InputError('peak memory on the CPU is known on Linux only: leave out --memory')

    def kibibytes(field: str) -> int:
        found = re.search(rf'{field}:\s+(\d+)', status.read_text())
        assert found is not None
        return int(found[1])

    clear.write_text('5')  # resets the peak; that of getrusage is the parent's until it is exceeded
    before = kibibytes('VmRSS')
    contestant.call()
    return (kibibytes('VmHWM') - before) * 1024


def _gpu_peak(contestant: Contestant) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contestant.call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _clock(call: Callable[[], Any], device: str) -> float:
    if device == 'cuda':
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _autocast(setting: Setting) -> AbstractContextManager[Any]:
    if setting.dtype == 'float32':
        return nullcontext()
    return torch.autocast(setting.device, dtype=DTYPES[setting.dtype])
