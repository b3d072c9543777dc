"""Detection on real data: the demo's classifier becomes the backbone of a Mask R-CNN that finds digits.

Continues where tools/misc/demo.py ends, and runs it first if it has not been run. Scenes of digits on
photographs are composed of what scikit-learn ships; a detector is trained from the classifier's weights,
evaluated with COCO's metrics, and draws its detections. --peer adds the same run with mmdet's Swin, at the
same multiply-adds and pretrained on the same digits.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asvit_mm.engine.arguments import run_tool
from asvit_mm.errors import InputError
from asvit_mm.utils.command_line import check_values, make_tool, option

TOOLS = Path(__file__).resolve().parents[1]
CONFIGS = TOOLS.parent / 'configs' / 'scenes'
PICTURES = 12
METRICS = [f'coco/{kind}_{metric}' for kind in ('bbox', 'segm') for metric in ('mAP', 'mAP_50')]


@dataclass(frozen=True)
class DetectionDemoSettings:
    """What is trained, and on how many scenes."""

    work_dir: Path = Path('work_dirs/demo_detection')
    """folder for everything that is written"""
    demo: Path = Path('work_dirs/demo')
    """the --work-dir of tools/misc/demo.py"""
    peer: bool = False
    """the same with a Swin"""
    scenes: int = option(default=600, at_least=1)
    """to train on; a fifth as many are held out"""
    seed: int = 0
    """of all random numbers"""
    cfg_options: tuple[str, ...] = option(default=(), metavar='KEY=VALUE')
    """of the detectors' training"""

    def __post_init__(self) -> None:
        check_values(self)


def run(args: DetectionDemoSettings) -> None:
    """Train and evaluate, then print the table."""
    from asvit_mm.data.scenes import ROOT, SceneSettings, write_scenes
    from asvit_mm.engine.options import parse_options
    from asvit_mm.utils.files import atomic_write_json

    parse_options(args.cfg_options)
    # First what may be refused within seconds.
    root = ROOT if args.scenes == SceneSettings.train else f'{ROOT}-{args.scenes}'
    scenes = Path(write_scenes(root, train=args.scenes, val=max(1, args.scenes // 5)))
    print(f'Scenes of digits: {scenes}')
    figures = args.work_dir / 'results.json'
    classifier = demo_classifier(args.demo, args.seed)
    config = asvit_config(classifier, args.work_dir, scenes)
    results = [detect('asvit', config, classifier['top1'], args, scenes)]
    atomic_write_json(figures, results)
    if args.peer:
        peer = swin_classifier(results[0]['backbone_macs'], args)
        config = swin_config(peer, args.work_dir, scenes)
        results.append(detect('swin', config, peer['top1'], args, scenes))
        atomic_write_json(figures, results)
    print('\n=== Results')
    print_table(results)
    print(f'figures  {figures}')
    for result in results:
        print(f'pictures {result["picture"]}, {result["pictures"]}')


def demo_classifier(folder: Path, seed: int) -> dict[str, Any]:
    """The classifier of tools/misc/demo.py: architecture, checkpoint, accuracy; trained if need be."""
    from mmengine.config import Config

    tested, found = folder / 'train' / 'test.json', folder / 'scale' / 'result.json'
    if not (tested.is_file() and found.is_file()):
        arguments = ('--work-dir', folder, '--seed', seed)
        run_tool('Search, scale and train a classifier', TOOLS / 'misc' / 'demo.py', *arguments)
    config = folder / 'scale' / json.loads(found.read_text())['series'][-1]['config']
    checkpoint = Path((folder / 'train' / 'last_checkpoint').read_text().strip())
    if not checkpoint.is_file():
        raise InputError(f'{checkpoint} is gone: remove {folder}, and it is trained again')
    trained = Config.fromfile(folder / 'train' / config.name)
    if trained.randomness.seed != seed:
        raise InputError(
            f'{folder} is a demo with seed {trained.randomness.seed}, not {seed}: name another --demo'
        )
    backbone = trained.model.backbone
    return {
        'arch': backbone.arch,
        'img_size': backbone.img_size,
        'checkpoint': checkpoint.resolve(),
        'top1': json.loads(tested.read_text())['accuracy/top1'],
    }


def asvit_config(classifier: dict[str, Any], work_dir: Path, scenes: Path) -> Path:
    """Write the config of the detector with the classifier's architecture and weights."""
    from asvit_mm.arch import as_architecture

    backbone = {key: classifier[key] for key in ('arch', 'img_size')}
    backbone['init_cfg'] = pretrained(classifier) | {'prefix': 'backbone.'}
    widths = as_architecture(classifier['arch']).widths
    base = 'mask-rcnn_asvit-seed_fpn_12e_scenes.py'
    return write_config(
        work_dir / 'mask-rcnn_asvit_fpn_12e_scenes.py', base, backbone, widths, scenes
    )


def pretrained(classifier: dict[str, Any]) -> dict[str, str]:
    """The init_cfg that loads a classifier's weights."""
    return {'type': 'Pretrained', 'checkpoint': str(classifier['checkpoint'])}


def swin_classifier(macs: int, args: DetectionDemoSettings) -> dict[str, Any]:
    """Train the peer's classifier, as wide as its multiply-adds allow."""
    width = swin_width(macs)
    work_dir = args.work_dir / 'swin' / 'classifier'
    config = CONFIGS / 'swin-c40_b64_digits.py'
    options = [
        f'model.backbone.arch.embed_dims={width}',
        f'model.head.in_channels={8 * width}',
        f'randomness.seed={args.seed}',
    ]
    common = ['--work-dir', work_dir, '--cfg-options', *options]
    run_tool(f'Train a Swin of width {width} to tell digits', TOOLS / 'train.py', config, *common)
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    metrics = work_dir / 'test.json'
    run_tool('Test it', TOOLS / 'test.py', config, checkpoint, '--out', metrics, *common)
    return {
        'width': width,
        'checkpoint': checkpoint.resolve(),
        'top1': json.loads(metrics.read_text())['accuracy/top1'],
    }


def swin_width(macs: int) -> int:
    """The width, a multiple of 4, at which the peer's backbone comes closest to ``macs`` multiply-adds."""
    import torch
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    from asvit_mm.analysis.flops import count_multiply_adds

    cfg = Config.fromfile(CONFIGS / 'mask-rcnn_swin-c40_fpn_12e_scenes.py')

    def cost(width: int) -> int:
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build({**cfg.model.backbone, 'embed_dims': width}).to('meta')
        model.eval()
        return count_multiply_adds(model, torch.zeros(1, 3, *cfg.image_size, device='meta'))

    widths = range(16, 129, 4)
    above = bisect_left(widths, macs, key=cost)
    if above == len(widths):
        raise InputError(f'no Swin up to a width of {widths[-1]} costs as much: leave --peer out')
    return min(widths[max(0, above - 1) : above + 1], key=lambda width: abs(cost(width) - macs))


def swin_config(classifier: dict[str, Any], work_dir: Path, scenes: Path) -> Path:
    """Write the config of the peer's detector with its classifier's weights."""
    width = classifier['width']
    backbone = {'embed_dims': width, 'init_cfg': pretrained(classifier)}
    widths = [width * 2**i for i in range(4)]
    base = 'mask-rcnn_swin-c40_fpn_12e_scenes.py'
    return write_config(
        work_dir / 'mask-rcnn_swin_fpn_12e_scenes.py', base, backbone, widths, scenes
    )


def write_config(
    path: Path, base: str, backbone: dict[str, Any], widths: Sequence[int], scenes: Path
) -> Path:
    """A config over one of configs/scenes, for the folder of the scenes."""
    from asvit_mm.utils.files import atomic_write_text

    annotations = str(scenes / 'annotations' / 'instances_val2017.json')
    lines = [
        f'_base_ = {str(CONFIGS / base)!r}',
        '',
        f'model = dict(backbone={backbone!r}, neck=dict(in_channels={list(widths)}))',
    ]
    for part in ('train', 'val', 'test'):
        lines.append(f'{part}_dataloader = dict(dataset=dict(data_root={str(scenes)!r}))')
    lines += [f'{part}_evaluator = dict(ann_file={annotations!r})' for part in ('val', 'test')]
    return atomic_write_text(path, '\n'.join(lines) + '\n')


def detect(
    name: str, config: Path, top1: float, args: DetectionDemoSettings, scenes: Path
) -> dict[str, Any]:
    """Train, evaluate and draw with one config; its figures, the classifier's accuracy among them."""
    folder = args.work_dir / name / 'detector'
    metrics, counts, pictures = folder / 'test.json', folder / 'flops.json', folder / 'pictures'
    options = ['--cfg-options', f'randomness.seed={args.seed}', *args.cfg_options]
    run_tool(
        'Count its cost',
        TOOLS / 'analysis_tools' / 'get_flops.py',
        *(config, '--shape', 128, '--json', counts, *options),
    )
    seconds = run_tool(
        'Train the detector', TOOLS / 'train.py', *(config, '--work-dir', folder, *options)
    )
    checkpoint = (folder / 'last_checkpoint').read_text().strip()
    run_tool(
        'Evaluate it on the held-out scenes',
        TOOLS / 'test.py',
        *(config, checkpoint, '--out', metrics, '--show-dir', pictures),
        *('--work-dir', folder / 'test', *options),
    )
    counted = json.loads(counts.read_text())
    (backbone,) = (row for row in counted['modules'] if row['name'] == 'backbone')
    return {
        'name': name,
        'classifier_top1': top1,
        'config': str(config),
        'checkpoint': checkpoint,
        'params': counted['params'],
        'macs': counted['macs'],
        'backbone_params': backbone['params'],
        'backbone_macs': backbone['macs'],
        'train_seconds': round(seconds),
        'metrics': json.loads(metrics.read_text()),
        'picture': str(draw(config, checkpoint, folder / 'detections.png', args, scenes)),
        'pictures': str(pictures),
    }


def draw(
    config: Path, checkpoint: str, path: Path, args: DetectionDemoSettings, scenes: Path
) -> Path:
    """The first held-out scenes, with what is detected in them."""
    import mmcv
    from mmdet.apis import inference_detector, init_detector

    from asvit_mm.analysis.plots import plot_detections
    from asvit_mm.data.scenes import CLASSES, FOLDERS
    from asvit_mm.engine.options import parse_options

    options = parse_options(args.cfg_options)
    model = init_detector(str(config), checkpoint, device='cpu', cfg_options=options)
    files = sorted(map(str, (scenes / FOLDERS['val']).glob('*.png')))[:PICTURES]
    images = [mmcv.imread(file, channel_order='rgb') for file in files]
    plot_detections(images, inference_detector(model, files), CLASSES, path)
    return path


def print_table(results: list[dict[str, Any]]) -> None:
    """One row per detector."""
    from asvit_mm.analysis.tables import print_table as print_rows
    from asvit_mm.utils.units import format_count

    names = ('box AP', 'box AP50', 'mask AP', 'mask AP50')
    costs = {'params': 'params', 'MACs': 'macs', 'backbone MACs': 'backbone_macs'}
    rows = [
        {
            'backbone': result['name'],
            **{column: format_count(result[key]) for column, key in costs.items()},
            'digits top-1': f'{result["classifier_top1"]:.2f}',
            **{n: f'{result["metrics"][m]:.3f}' for n, m in zip(names, METRICS, strict=True)},
            'training': f'{result["train_seconds"]} s',
        }
        for result in results
    ]
    print_rows('Detectors of scenes', rows, 120)


parse_args, main = make_tool(DetectionDemoSettings, run, __doc__)

if __name__ == '__main__':
    main()
