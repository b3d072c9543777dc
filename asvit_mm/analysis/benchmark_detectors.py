"""Detectors side by side: parameters, multiply-adds and time of a prediction, measured in one run."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from torch import nn

from ..engine.config import is_detector
from ..errors import InputError
from ..runs.settings import check_at_least, find_device
from ..tokens import as_pair
from ..utils.files import atomic_write_json, check_writable, relative
from .benchmark import device_name, median_and_spread, time_in_turn
from .flops import black_image, build_model, count_prediction, detect, load_model_config

# mmdet's names are long, and a name on two lines cannot be copied.
TABLE_WIDTH = 160
# A GPU's kernels are chosen and loaded during the first calls; on a CPU the counted call was one, too.
WARMUP = {'cpu': 1, 'cuda': 3}


def print_progress(text: str) -> None:
    """Say on stderr what is being done."""
    print(text, file=sys.stderr, flush=True)


def run_detectors(
    configs: Sequence[str],
    shape: Sequence[int] = (800, 1344),
    *,
    rounds: int = 3,
    device: str = 'cpu',
    threads: int | None = None,
    json: str | None = None,
    report: Callable[[str], None] = print_progress,
) -> dict[str, Any]:
    """Count, time, print and write what a prediction of one image costs each detector.

    Timed is the whole prediction of an image that lies on the device already: preprocessing, backbone, neck,
    heads, suppression of overlapping boxes, and masks pasted into images of the same size. All in float32
    (on a GPU torch computes convolutions in TF32, its default), one call of each detector a round, in turn.
    Weights are random and always the same, and for the heads of two stages no score is too low, so that
    proposals and detections are as many as the config allows: the multiply-adds are those of
    :func:`~asvit_mm.analysis.flops.run_flops`.

    What reads boxes takes time, but counts no multiply-adds, and random weights find other boxes in each
    model: the backbone's time inside the same predictions is given, too.

    Args:
        configs: paths, or ``mmdet::FOLDER/NAME.py`` for configs that mmdet ships.
        shape: (height, width) of the image, in pixels.
        rounds: timed predictions of each detector.
        device: ``'cpu'`` or ``'cuda'``.
        threads: of the CPU, for the rest of the process; None: torch's default.
        json: file to write the figures to.
        report: told what is being done.

    Returns:
        Plain data: ``device``, ``torch``, ``shape``, ``rounds``; for each of ``detectors`` its ``config``,
        ``params``, ``macs``, ``backbone_macs``, ``rois`` (regions that each kind of head saw), ``seconds``
        (median), ``spread`` (third minus first quartile as a share of it), ``backbone_seconds`` (median)
        and ``ms_per_gmac``, milliseconds of the whole prediction per billion multiply-adds.

    Raises:
        InputError: a config that is none of a detector, an image that a detector cannot take, a device
            that is not there, or an option out of range.
    """
    check_at_least('--rounds', rounds, 1)
    if threads is not None:
        check_at_least('--threads', threads, 1)
        torch.set_num_threads(threads)
    find_device(device)
    height, width = as_pair(shape, '--shape')
    if json is not None:
        check_writable(Path(json))  # not when everything is measured
    # All of them before the first is counted: a wrong name must not cost minutes.
    detectors = [Detector(config) for config in configs]
    for detector in detectors:
        detector.count(height, width)
        report(f'counted {detector.config}: {detector.macs / 1e9:.4g} G multiply-adds')
    for detector in detectors:
        report(f'warm-up of {detector.config}')
        detector.prepare(height, width, device)
        for _ in range(WARMUP[device]):
            detector.predict()
    calls = [detector.predict for detector in detectors]
    seconds = time_in_turn(calls, device, rounds, report)
    result = {
        'device': device_name(device),
        'torch': str(torch.__version__),
        'shape': [height, width],
        'rounds': rounds,
        'detectors': [
            detector.figures(taken) for detector, taken in zip(detectors, seconds, strict=True)
        ],
    }
    _print(result)
    if json is not None:
        print(f'written: {relative(atomic_write_json(json, result))}')
    return result


class Detector:
    """A detector with random weights that predicts one image again and again.

    Args:
        config: see :func:`run_detectors`.

    Raises:
        InputError: no such config, or none of a detector of images that can be built.
    """

    def __init__(self, config: str) -> None:
        self.config = relative(Path(config))
        self.model: Any = build_model(load_detector(config), config)
        if not isinstance(getattr(self.model, 'backbone', None), nn.Module):
            raise InputError(f'{config}: {type(self.model).__name__} has no backbone of its own')
        self.params = sum(p.numel() for p in self.model.parameters())
        self.device = 'cpu'
        self.backbone_seconds: list[float] = []

    def count(self, height: int, width: int) -> None:
        """Count the multiply-adds of a prediction and the regions that its heads see; on the CPU.

        Raises:
            InputError: it cannot take such an image.
        """
        image = black_image(height, width)
        counts, self.rois = count_prediction(
            self.model, lambda: detect(self.model, image), (height, width)
        )
        self.macs, self.backbone_macs = counts[''], counts['backbone']

    def prepare(self, height: int, width: int, device: str) -> None:
        """Move model and image to the device; from now on the backbone's time is noted."""
        self.device = device
        self.model.to(device)
        self.image = black_image(height, width, device)
        self.model.backbone.register_forward_pre_hook(lambda *_: self._note(-self._now()))
        self.model.backbone.register_forward_hook(lambda *_: self._note(self._now()))

    def predict(self) -> None:
        """One prediction of the image."""
        self.backbone_seconds.append(0.0)
        with torch.no_grad():
            detect(self.model, self.image)

    def figures(self, seconds: Sequence[float]) -> dict[str, Any]:
        """Plain data for the predictions that took ``seconds``, the last ones that were made."""
        median, spread = median_and_spread(seconds)
        inside, _ = median_and_spread(self.backbone_seconds[-len(seconds) :])
        return {
            'config': self.config,
            'params': self.params,
            'macs': self.macs,
            'backbone_macs': self.backbone_macs,
            'rois': self.rois,
            'seconds': median,
            'spread': spread,
            'backbone_seconds': inside,
            'ms_per_gmac': median * 1e3 / (self.macs / 1e9),
        }

    def _note(self, seconds: float) -> None:
        # A backbone that is called several times in a prediction adds up.
        self.backbone_seconds[-1] += seconds

    def _now(self) -> float:
        if self.device == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()


def load_detector(name: str) -> Config:
    """The config of a detector.

    Args:
        name: a path, or ``mmdet::FOLDER/NAME.py`` for a config that mmdet ships.

    Raises:
        InputError: no such config, or none of a detector.
    """
    cfg = load_model_config(name)
    if not is_detector(cfg):
        raise InputError(f"{name} is no detector's config: its default_scope is not mmdet")
    return cfg


def _print(result: dict[str, Any]) -> None:
    height, width = result['shape']
    console = Console(highlight=False)
    console.width = max(TABLE_WIDTH, console.width)
    shown = Table(
        title=f'A prediction of one image of {height}x{width}, {result["rounds"]} rounds in turn; '
        f'{result["device"]}; torch {result["torch"]}',
        title_justify='left',
    )
    shown.add_column('detector')
    for column in ('params', 'GMACs', 'backbone', 'regions'):
        shown.add_column(column, justify='right')
    for column in ('s', 'spread', 'backbone s', 'ms/GMAC'):
        shown.add_column(column, justify='right')
    detectors = result['detectors']
    stems = [Path(found['config']).stem for found in detectors]
    for found, stem in zip(detectors, stems, strict=True):
        shown.add_row(
            stem if stems.count(stem) == 1 else found['config'],
            f'{found["params"] / 1e6:.1f} M',
            f'{found["macs"] / 1e9:.4g}',
            f'{found["backbone_macs"] / 1e9:.4g}',
            '/'.join(map(str, found['rois'].values())) or '-',
            f'{found["seconds"]:.3g}',
            f'{found["spread"]:.0%}',
            f'{found["backbone_seconds"]:.3g}',
            f'{found["ms_per_gmac"]:.3g}',
        )
    console.print(shown)
