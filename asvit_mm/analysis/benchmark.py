"""Speed of image models side by side: one counter of multiply-adds, one clock, rounds in turn.

Models, eager and compiled, are timed in turn, one call each a round, so that a machine whose speed drifts
slows all of them alike. A large matrix product is timed in the same rounds: its milliseconds per billion
multiply-adds are the floor that the device sets.
"""

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..arch import PRESETS
from ..engine.config import shipped_configs
from ..engine.options import parse_options
from ..errors import InputError
from ..models.classifier import build_classifier, classifier_config
from ..utils.files import write_figures
from ..utils.timing import device_name, median_and_spread, time_in_turn
from ..utils.units import format_count
from .flops import count_multiply_adds, count_parameters
from .plots import plot_timings
from .settings import BenchmarkSettings, parse_size
from .tables import print_table

WARMUP = 3
COMPILED, CHANNELS_LAST = ' (compiled)', ' (channels-last)'


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


class Contestant:
    """A model ready to be called again and again in one setting.

    Args:
        name: see :func:`build_model`; with ' (channels-last)' behind it for that memory format, and then
            with ' (compiled)' for the model under ``torch.compile``.
        warmup: calls that are made at once.
        compiler: arguments of ``torch.compile``; None: weights are constants in inference.
    """

    def __init__(
        self,
        name: str,
        setting: Setting,
        warmup: int = WARMUP,
        compiler: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.setting = name, setting
        plain = name.removesuffix(COMPILED)
        layout: dict[str, Any] = {}
        if plain.endswith(CHANNELS_LAST):
            layout['memory_format'] = torch.channels_last
        torch.manual_seed(0)
        images = torch.randn(setting.batch, 3, *setting.size)
        self.images = images.to(setting.device, **layout)
        model = build_model(plain.removesuffix(CHANNELS_LAST), setting.options)
        model = model.to(setting.device, **layout)
        self.params = count_parameters(model)
        self.macs = count_multiply_adds(model.eval(), self.images[:1])
        self.training = setting.mode == 'training'
        model.train(self.training)  # some backbones return None from it
        if self.training:
            fused = setting.device == 'cuda' or None
            self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=fused)
        self.model: Callable[[Tensor], Any] = model
        if name.endswith(COMPILED):
            compiler = compiler or {'options': {'freezing': not self.training}}
            self.model = torch.compile(model, **compiler)
        print_progress(f'warm-up of {name} ({setting})')
        for _ in range(warmup):
            self.call()

    def call(self) -> None:
        """One forward pass, or one training step."""
        device, dtype = self.setting.device, getattr(torch, self.setting.dtype)
        autocast = torch.autocast(device, dtype) if dtype != torch.float32 else nullcontext()
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
        what the file holds of each model in each setting: the setting's fields and what
        :func:`time_models` gives.

    Raises:
        InputError: an unknown model, or one that does not take such images.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device, options = device_name(settings.device), parse_options(settings.options)
    suffixes = [
        suffix for word, suffix in (('no', ''), ('yes', COMPILED)) if word in settings.compile
    ]
    names = [name + suffix for name in settings.models for suffix in suffixes]
    print(f'{device}; torch {torch.__version__}', flush=True)
    tables = {}
    for mode, dtype, size in itertools.product(settings.mode, settings.dtype, settings.size):
        setting = Setting(
            mode, settings.device, dtype, settings.batch_size, parse_size(size), options
        )
        models = [(name, setting) for name in names]
        timings = time_models(models, settings.rounds, memory=settings.memory)
        _print(setting, timings)
        tables[str(setting)] = [{**asdict(setting), **timing} for timing in timings]
    found = [timing for timings in tables.values() for timing in timings]
    result = {'device': device, 'torch': str(torch.__version__), 'timings': found}
    write_figures(settings.json, result)
    if settings.plot:
        plot_timings(tables, settings.plot)
    return found


def time_models(
    models: Sequence[tuple[str, Setting]],
    rounds: int = 9,
    *,
    warmup: int = WARMUP,
    memory: bool = False,
) -> list[dict[str, Any]]:
    """Time models side by side; says on stderr what is being done.

    Args:
        models: each with its name, see :class:`Contestant`, and its setting; all on one device in one mode
            and type.
        rounds: calls of each model, in turn.
        warmup: calls of each before the first round.
        memory: whether peak memory is measured too, see :func:`peak_memory`.

    Returns:
        Plain data of each model: ``name``, ``params``, ``macs`` (of one image's forward pass), ``seconds``
        (median of a call), ``spread`` (third minus first quartile as a share of it), ``images_per_second``,
        ``ms_per_gmac`` (milliseconds of a call per billion multiply-adds of its forward passes),
        ``floor_ms_per_gmac`` (of the large matrix product in the same rounds; training: three times as much,
        as the backward pass has two products for one) and ``memory`` in bytes, None where not measured.

    Raises:
        InputError: an unknown model.
    """
    contestants = [Contestant(name, setting, warmup) for name, setting in models]
    _, setting = models[0]
    product, product_macs = matrix_product(setting)
    product()
    calls = [product, *(contestant.call for contestant in contestants)]
    floor, *seconds = time_in_turn(calls, setting.device, rounds, print_progress)
    passes = 3 if setting.mode == 'training' else 1
    timings = []
    for contestant, taken in zip(contestants, seconds, strict=True):
        median, spread = median_and_spread(taken)
        timings.append(
            {
                'name': contestant.name,
                'params': contestant.params,
                'macs': contestant.macs,
                'seconds': median,
                'spread': spread,
                'images_per_second': len(contestant.images) / median,
                'ms_per_gmac': median * 1e12 / (len(contestant.images) * contestant.macs),
                'floor_ms_per_gmac': passes * median_and_spread(floor)[0] * 1e12 / product_macs,
                'memory': peak_memory(contestant.call, setting.device) if memory else None,
            }
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


def peak_memory(call: Callable[[], Any], device: str) -> int:
    """Bytes that torch has allocated at the peak of a call, above what it had before."""
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True, acc_events=True) as profile:
        call()
    # Of each allocation the bytes, of each release as many below zero.
    results = profile.profiler.kineto_results
    changes = (event.nbytes() for event in results.events() if event.name() == '[memory]')
    return max(itertools.accumulate(changes), default=0)


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
        return build_classifier(classifier_config(name, 1000, **(options or {})))
    builders = {'mmpretrain': _mmpretrain, 'mmdet': _mmdet_backbone, 'timm': _timm}
    if source not in builders:
        raise InputError(
            f'{name!r}: no such source; give a preset ({", ".join(PRESETS)}), an architecture, '
            'mmpretrain:NAME, mmdet:NAME or timm:NAME'
        )
    return builders[source](model)


def _mmpretrain(name: str) -> nn.Module:
    from mmpretrain import get_model

    try:
        return get_model(name, pretrained=False)
    except ValueError as error:
        raise InputError(f'mmpretrain:{name}: {error}') from None


def _mmdet_backbone(name: str) -> nn.Module:
    found = sorted(shipped_configs().glob(f'**/{name}.py'))
    if not found:
        raise InputError(f'mmdet:{name}: no such config below {shipped_configs()}')
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


def _print(setting: Setting, timings: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        {
            'model': timing['name'],
            'params': format_count(timing['params']),
            'GMACs': f'{timing["macs"] / 1e9:.2f}',
            'ms': f'{timing["seconds"] * 1e3:.1f}',
            'spread': f'{timing["spread"]:.0%}',
            'images/s': f'{timing["images_per_second"]:.1f}',
            'ms/GMAC': f'{timing["ms_per_gmac"]:.3g}',
            'of matmul': f'{timing["floor_ms_per_gmac"] / timing["ms_per_gmac"]:.0%}',
        }
        for timing in timings
    ]
    for row, timing in zip(rows, timings, strict=True):
        if timing['memory'] is not None:
            row['MiB/image'] = f'{timing["memory"] / setting.batch / 2**20:.1f}'
    floor = timings[0]['floor_ms_per_gmac']
    print_table(f'{setting}; matrix product {floor:.3g} ms/GMAC', rows)
