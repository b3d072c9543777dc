"""Detectors side by side: parameters, multiply-adds and time of a prediction, measured in one run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engine.config import is_detector
from ..engine.models import build_model, load_model_config
from ..errors import InputError
from ..tokens import as_pair
from ..utils.files import relative, write_figures
from ..utils.timing import device_name, median_and_spread, now, time_in_turn
from .benchmark import print_progress
from .flops import black_image, count_parameters, count_prediction, detect, keep_all_scores
from .settings import DetectorSettings
from .tables import print_table

# mmdet's names are long, and a name on two lines cannot be copied.
TABLE_WIDTH = 160
# A GPU's kernels are chosen and loaded during the first calls.
WARMUP = {'cpu': 1, 'cuda': 3}


def run_detectors(settings: DetectorSettings) -> dict[str, Any]:
    """Count, time, print and write what a prediction of one image costs each detector.

    Timed is the whole prediction of an image that lies on the device already: preprocessing, backbone,
    neck, heads, suppression of overlapping boxes, and masks pasted into images of the same size. All in
    float32 (on a GPU torch computes convolutions in TF32, its default), one call of each detector a round,
    in turn. Weights are random and always the same, and for the heads of two-stage detectors no score is
    too low, so that proposals and detections are as many as the config allows.

    What reads boxes takes time, but counts no multiply-adds, and random weights find other boxes in each
    model: the backbone's time inside the same predictions is given, too.

    Returns:
        Plain data: ``device``, ``torch``, ``shape``, ``rounds``; for each of ``detectors`` what
        :meth:`Detector.figures` gives.

    Raises:
        InputError: a config that is none of a detector, or an image that a detector cannot take.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    size = settings.shape
    shape = as_pair(size[0] if len(size) == 1 else size, '--shape')
    # All of them before the first is counted: a wrong name must not cost minutes.
    detectors = [Detector(config) for config in settings.configs]
    for detector in detectors:
        detector.count(shape)
        print_progress(f'counted {detector.config}: {detector.macs / 1e9:.4g} G multiply-adds')
    for detector in detectors:
        print_progress(f'warm-up of {detector.config}')
        detector.prepare(shape, settings.device)
        for _ in range(WARMUP[settings.device]):
            detector.predict()
    calls = [detector.predict for detector in detectors]
    seconds = time_in_turn(calls, settings.device, settings.rounds, print_progress)
    result = {
        'device': device_name(settings.device),
        'torch': str(torch.__version__),
        'shape': list(shape),
        'rounds': settings.rounds,
        'detectors': [
            detector.figures(taken) for detector, taken in zip(detectors, seconds, strict=True)
        ],
    }
    _print(result)
    write_figures(settings.json, result)
    return result


class Detector:
    """A detector with random weights that predicts one image again and again.

    Args:
        config: a path, or ``mmdet::FOLDER/NAME.py`` for a config that mmdet ships.

    Raises:
        InputError: no such config, or none of a detector of images that can be built.
    """

    def __init__(self, config: str) -> None:
        self.config = relative(Path(config))
        self.cfg = load_model_config(config)
        if not is_detector(self.cfg):
            raise InputError(f"{config} is no detector's config: its default_scope is not mmdet")
        self.model: Any = build_model(self.cfg, config)
        if not isinstance(getattr(self.model, 'backbone', None), nn.Module):
            raise InputError(f'{config}: {type(self.model).__name__} has no backbone of its own')
        self.device = 'cpu'
        self.backbone_seconds: list[float] = []

    def count(self, shape: tuple[int, int]) -> None:
        """Count the multiply-adds of a prediction and the regions that its heads see.

        Raises:
            InputError: it cannot take such an image.
        """
        counts, self.rois = count_prediction(self.model, self.cfg, shape)
        self.macs, self.backbone_macs = counts[''], counts['backbone']

    def prepare(self, shape: tuple[int, int], device: str) -> None:
        """Move model and image to the device; from now on the backbone's time is noted."""
        self.device = device
        keep_all_scores(self.model)
        self.model.to(device)
        self.image = black_image(*shape, device)
        # A backbone that is called several times in a prediction adds up.
        self.model.backbone.register_forward_pre_hook(lambda *_: self._add(-now(self.device)))
        self.model.backbone.register_forward_hook(lambda *_: self._add(now(self.device)))

    def predict(self) -> None:
        """One prediction of the image."""
        self.backbone_seconds.append(0.0)
        with torch.no_grad():
            detect(self.model, self.image)

    def figures(self, seconds: Sequence[float]) -> dict[str, Any]:
        """Plain data for the predictions that took ``seconds``, the last ones that were made.

        Returns:
            ``config``, ``params``, ``macs``, ``backbone_macs``, ``rois`` (regions that each kind of head
            sees), ``seconds`` (median), ``spread`` (third minus first quartile as a share of it),
            ``backbone_seconds`` (median) and ``ms_per_gmac``, milliseconds of the whole prediction per
            billion multiply-adds.
        """
        median, spread = median_and_spread(seconds)
        inside, _ = median_and_spread(self.backbone_seconds[-len(seconds) :])
        return {
            'config': self.config,
            'params': count_parameters(self.model),
            'macs': self.macs,
            'backbone_macs': self.backbone_macs,
            'rois': self.rois,
            'seconds': median,
            'spread': spread,
            'backbone_seconds': inside,
            'ms_per_gmac': median * 1e12 / self.macs,
        }

    def _add(self, seconds: float) -> None:
        self.backbone_seconds[-1] += seconds


def _print(result: dict[str, Any]) -> None:
    height, width = result['shape']
    stems = [Path(found['config']).stem for found in result['detectors']]
    rows = [
        {
            'detector': stem if stems.count(stem) == 1 else found['config'],
            'params': f'{found["params"] / 1e6:.1f} M',
            'GMACs': f'{found["macs"] / 1e9:.4g}',
            'backbone': f'{found["backbone_macs"] / 1e9:.4g}',
            'regions': '/'.join(map(str, found['rois'].values())) or '-',
            's': f'{found["seconds"]:.3g}',
            'spread': f'{found["spread"]:.0%}',
            'backbone s': f'{found["backbone_seconds"]:.3g}',
            'ms/GMAC': f'{found["ms_per_gmac"]:.3g}',
        }
        for found, stem in zip(result['detectors'], stems, strict=True)
    ]
    title = (
        f'A prediction of one image of {height}x{width}, {result["rounds"]} rounds in turn; '
        f'{result["device"]}; torch {result["torch"]}'
    )
    print_table(title, rows, TABLE_WIDTH)
