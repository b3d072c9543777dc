"""Speed of image models side by side: one counter of multiply-adds, one clock, rounds in turn.

Models, eager and compiled, are timed in turn, one call each a round, so that a machine whose speed drifts
slows all of them alike. A large matrix product is timed in the same rounds: its milliseconds per billion
multiply-adds are the floor that the device sets.
"""

import gc
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ..arch import PRESETS, as_architecture
from ..engine.config import mmdet_configs
from ..engine.runner import parse_options
from ..errors import InputError
from ..utils.files import atomic_write_json
from ..utils.timing import device_name, median_and_spread, time_in_turn
from ..utils.units import format_count
from .flops import count_multiply_adds, count_parameters
from .plots import plot_timings
from .settings import BenchmarkSettings, parse_size

WARMUP = 3
COMPILED = ' (compiled)'
# glibc gives a tensor's memory back to the system as soon as it is freed.
RETURN_MEMORY = {'MALLOC_MMAP_THRESHOLD_': '65536'}
_PEAK = (
    'import json, sys; from asvit_mm.analysis.benchmark import Setting, cpu_peak; '
    'print(cpu_peak(sys.argv[1], Setting(**json.loads(sys.argv[2]))))'
)


@dataclass(frozen=True)
class Setting:
    """How models are run.

    Args:
        mode: ``'inference'`` (forward) or ``'training'`` (forward, backward, AdamW step).
        device: ``'cpu'`` or ``'cuda'``.
        dtype: ``'float32'``, or the autocast type ``'bfloat16'`` or ``'float16'``.
        batch: images per call.
        size: (height, width) of an image in pixels.
        options: settings of our backbones, such as ``with_cp`` or ``window_size``.
    """

    mode: str = 'inference'
    device: str = 'cpu'
    dtype: str = 'float32'
    batch: int = 8
    size: Sequence[int] = (224, 224)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        height, width = self.size
        return f'{self.mode}, {self.device}, {self.dtype}, batch {self.batch}, {height}x{width}'


@dataclass(frozen=True)
class Timing:
    """Figures of one model in one setting.

    Attributes:
        name: the model.
        macs: multiply-adds of one image's forward pass.
        params: parameters.
        seconds: median of a call.
        spread: third minus first quartile of the calls, as a share of the median.
        images_per_second: images a second.
        ms_per_gmac: milliseconds of a call per billion multiply-adds of its forward passes.
        floor_ms_per_gmac: what the large matrix product takes for as many (training: for three times as many,
            as the backward pass has two products for one), in the same rounds.
        memory: peak bytes: allocated on a GPU, growth of the resident set of a process of its own on
            the CPU; None where not measured.
    """

    name: str
    macs: int
    params: int
    seconds: float
    spread: float
    images_per_second: float
    ms_per_gmac: float
    floor_ms_per_gmac: float
    memory: int | None = None


class Contestant:
    """A model ready to be called again and again in one setting.

    Args:
        name: see :func:`build_model`; with ' (compiled)' behind it for the model under ``torch.compile``,
        whose
            weights are constants in inference.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        self.name, self.setting = name, setting
        torch.manual_seed(0)
        self.images = torch.randn(setting.batch, 3, *setting.size).to(setting.device)
        model = build_model(name.removesuffix(COMPILED), setting.options).to(setting.device)
        self.params = count_parameters(model)
        self.macs = count_multiply_adds(model.eval(), self.images[:1])
        self.training = setting.mode == 'training'
        model.train(self.training)  # some backbones return None from it
        if self.training:
            self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        self.model: Callable[[Tensor], Any] = model
        if name.endswith(COMPILED):
            self.model = torch.compile(model, options={'freezing': not self.training})

    def call(self) -> None:
        """One forward pass, or one training step."""
        setting = self.setting
        dtype = getattr(torch, setting.dtype)
        autocast = (
            torch.autocast(setting.device, dtype) if dtype != torch.float32 else nullcontext()
        )
        with torch.set_grad_enabled(self.training), autocast:
            outputs = self.model(self.images)
            if not self.training:
                return
            outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
            # A sum has a gradient of one value everywhere, which a softmax head would cancel.
            loss = sum(output.float().square().mean() for output in outputs)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def run_benchmark(settings: BenchmarkSettings) -> list[dict[str, Any]]:
    """Run every setting, print its table, and write the JSON file and the picture.

    Returns:
        what the file holds of each model in each setting: the setting's and :class:`Timing`'s fields.

    Raises:
        InputError: an unknown model, or one that does not take such images.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device, options = device_name(settings.device), parse_options(settings.options)
    names = [
        name + suffix
        for name in settings.models
        for suffix in ('', COMPILED)
        if ('yes' if suffix else 'no') in settings.compile
    ]
    print(f'{device}; torch {torch.__version__}', flush=True)
    tables = {}
    for mode, dtype, size in itertools.product(settings.mode, settings.dtype, settings.size):
        setting = Setting(
            mode, settings.device, dtype, settings.batch_size, parse_size(size), options
        )
        timings = time_models(names, setting, settings.rounds, memory=settings.memory)
        _print(setting, timings)
        tables[str(setting)] = [{**asdict(setting), **asdict(timing)} for timing in timings]
    found = [timing for timings in tables.values() for timing in timings]
    if settings.json:
        result = {'device': device, 'torch': str(torch.__version__), 'timings': found}
        atomic_write_json(settings.json, result)
    if settings.plot:
        plot_timings(tables, settings.plot)
    return found


def time_models(
    names: Sequence[str],
    setting: Setting,
    rounds: int = 9,
    *,
    warmup: int = WARMUP,
    memory: bool = False,
) -> list[Timing]:
    """Time models side by side; says on stderr what is being done.

    Args:
        names: see :class:`Contestant`.
        rounds: calls of each model, in turn.
        warmup: calls of each before the first round.
        memory: whether peak memory is measured too (CPU: in a process of its own for each model).

    Raises:
        InputError: an unknown model.
    """
    contestants = []
    for name in names:
        print_progress(f'warm-up of {name} ({setting})')
        contestants.append(Contestant(name, setting))
        for _ in range(warmup):
            contestants[-1].call()
    product, product_macs = matrix_product(setting)
    product()
    calls = [product, *(contestant.call for contestant in contestants)]
    floor, *seconds = time_in_turn(calls, setting.device, rounds, print_progress)
    passes = 3 if setting.mode == 'training' else 1
    timings = []
    for contestant, taken in zip(contestants, seconds, strict=True):
        median, spread = median_and_spread(taken)
        timings.append(
            Timing(
                contestant.name,
                contestant.macs,
                contestant.params,
                median,
                spread,
                images_per_second=setting.batch / median,
                ms_per_gmac=median * 1e12 / (setting.batch * contestant.macs),
                floor_ms_per_gmac=passes * median_and_spread(floor)[0] * 1e12 / product_macs,
                memory=_peak(contestant) if memory else None,
            )
        )
    return timings


def print_progress(text: str) -> None:
    """Say on stderr what is being done."""
    print(text, file=sys.stderr, flush=True)


def matrix_product(setting: Setting) -> tuple[Callable[[], Any], int]:
    """A large square matrix product in the setting's type, and its multiply-adds."""
    side = 8192 if setting.device == 'cuda' else 2048
    dtype = getattr(torch, setting.dtype)
    left, right = (torch.randn(side, side, device=setting.device, dtype=dtype) for _ in range(2))
    return (lambda: left @ right), side**3


# ---- Memory


def cpu_peak(name: str, setting: Setting) -> int:
    """Peak of this process's resident set over a second call above what it was before, in bytes (Linux).

    The first call leaves what stays, such as the optimizer's state. Run it in a process of its own with
    :data:`RETURN_MEMORY` in its environment, or what the first call's tensors leave with the
    allocator is not seen.

    Raises:
        InputError: the system does not tell its processes' peaks.
    """
    status, clear = Path('/proc/self/status'), Path('/proc/self/clear_refs')
    if not clear.exists():
        raise InputError('peak memory on the CPU is known on Linux only: leave out --memory')
    contestant = Contestant(name, setting)
    contestant.call()
    gc.collect()

    def kibibytes(field: str) -> int:
        found = re.search(rf'{field}:\s+(\d+)', status.read_text())
        assert found is not None
        return int(found[1])

    clear.write_text('5')  # resets the peak; that of getrusage is the parent's until it is exceeded
    before = kibibytes('VmRSS')
    contestant.call()
    return (kibibytes('VmHWM') - before) * 1024


def own_process_peak(name: str, setting: Setting) -> int:
    """:func:`cpu_peak` in a process of its own, which has held nothing before.

    Raises:
        InputError: the process failed; says why.
    """
    words = [sys.executable, '-c', _PEAK, name, json.dumps(asdict(setting))]
    environment = {**os.environ, **RETURN_MEMORY}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f'ended with status {done.returncode}']
        raise InputError(f'peak memory of {name}: {why[0]}')
    return int(done.stdout.split()[-1])


def _peak(contestant: Contestant) -> int:
    """Peak memory of a call in bytes."""
    if contestant.setting.device == 'cpu':
        return own_process_peak(contestant.name, contestant.setting)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contestant.call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


# ---- Models by name


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
    builders = {'mmpretrain': _mmpretrain, 'mmdet': _mmdet_backbone, 'timm': _timm}
    if source not in builders:
        raise InputError(
            f'{name!r}: no such source; give a preset ({", ".join(PRESETS)}), an architecture, '
            'mmpretrain:NAME, mmdet:NAME or timm:NAME'
        )
    return builders[source](model)


def _own_classifier(arch: str, options: Mapping[str, Any]) -> nn.Module:
    from mmpretrain.registry import MODELS

    width = as_architecture(arch).widths[-1]
    head = dict(
        type='VisionTransformerClsHead', num_classes=1000, in_channels=width, hidden_dim=width
    )
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='asvit_mm.AsViT', arch=arch, **options),
            neck=dict(type='GlobalAveragePooling'),
            head=head,
        )
    )


def _mmpretrain(name: str) -> nn.Module:
    from mmpretrain import get_model

    try:
        return get_model(name, pretrained=False)
    except ValueError as error:
        raise InputError(f'mmpretrain:{name}: {error}') from None


def _mmdet_backbone(name: str) -> nn.Module:
    found = sorted(mmdet_configs().glob(f'**/{name}.py'))
    if not found:
        raise InputError(f'mmdet:{name}: no such config below {mmdet_configs()}')
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


def _print(setting: Setting, timings: Sequence[Timing]) -> None:
    floor = timings[0].floor_ms_per_gmac
    table = Table(title=f'{setting}; matrix product {floor:.3g} ms/GMAC', title_justify='left')
    for column in ('model', 'params', 'GMACs', 'ms', 'spread', 'images/s', 'ms/GMAC', 'of matmul'):
        table.add_column(column, justify='left' if column == 'model' else 'right')
    if timings[0].memory is not None:
        table.add_column('MiB/image', justify='right')
    for timing in timings:
        row = [
            timing.name,
            format_count(timing.params),
            f'{timing.macs / 1e9:.2f}',
            f'{timing.seconds * 1e3:.1f}',
            f'{timing.spread:.0%}',
            f'{timing.images_per_second:.1f}',
            f'{timing.ms_per_gmac:.3g}',
            f'{timing.floor_ms_per_gmac / timing.ms_per_gmac:.0%}',
        ]
        if timing.memory is not None:
            row.append(f'{timing.memory / setting.batch / 2**20:.1f}')
        table.add_row(*row)
    Console(width=max(100, Console().width)).print(table)
