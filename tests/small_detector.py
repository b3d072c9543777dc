"""The scenes' Mask R-CNN made small by options, and the scenes that tests of it share."""

from mmengine.config import Config

from .test_coco_configs import SCENES, TWO_STAGES

TRAIN, VAL, SIZE = 4, 3, 64


def options(name, *more):
    """Options that make a run of the scenes' config small: two steps of training.

    Args:
        name: of the run's visualizer: MMEngine keeps one for every name in a process.
        more: options that win over these.
    """
    cfg = Config.fromfile(SCENES)
    found = [
        'train_cfg.max_epochs=1',
        'param_scheduler.0.end=2',
        'default_hooks.logger.interval=1',
        'model.train_cfg.rcnn.sampler.num=16',
        *TWO_STAGES,
        f'visualizer.name={name}',
    ]
    for part in ('train', 'val', 'test'):
        loader = f'{part}_dataloader'
        steps = [step.type.removeprefix('mmdet.') for step in cfg[loader].dataset.pipeline]
        found += [
            f'{loader}.batch_size=2',
            f'{loader}.num_workers=0',
            f'{loader}.persistent_workers=False',
            f'{loader}.dataset.pipeline.{steps.index("Resize")}.scale=({SIZE},{SIZE})',
        ]
    return ['--cfg-options', *found, *more]


def place(scenes, folder, name='scenes'):
    """Make the scenes known in a folder by the name that configs expect."""
    (folder / 'data').mkdir(exist_ok=True)
    (folder / 'data' / name).symlink_to(scenes)
