"""How each kind of data is trained: what of a config does not depend on the architecture."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mmengine.config import Config

from ..data.images import IMAGENET_MEAN, IMAGENET_STD
from ..data.source import DataSource
from ..errors import InputError
from .shipped import shipped_assignments, shipped_config, shipped_text

IMAGENET_EPOCHS = 300
FOLDER_BATCH = 64
DIGITS_LEAF = 'digits/asvit-seed_b64-progressive_digits.py'

LABEL_SMOOTHING = {'type': 'LabelSmoothLoss', 'label_smooth_val': 0.1, 'mode': 'original'}
MIXING = {'augments': [{'type': 'Mixup', 'alpha': 0.8}, {'type': 'CutMix', 'alpha': 1.0}]}
RUNTIME = 'mmpretrain::_base_/default_runtime.py'
SWIN_DATA = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'
SWIN_SCHEDULE = 'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py'
SCHEDULE_FIELDS = (
    'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'auto_scale_lr',
)  # fmt: skip
NO_VALIDATION = """# Nothing to validate on; once there is, give the dataloaders instead of these.
val_cfg = None
test_cfg = None
"""


@dataclass(frozen=True)
class Recipe:
    """What a config says beside the model.

    Attributes:
        bases: its ``_base_``.
        body: text of its data, optimizer and schedule.
        batch_name: GPUs and batch in its file name.
        run_length: epochs (``by_epoch``) or iterations of the run.
        gpus: that it is made for.
        loss: the head's loss.
        model_extra: further fields of the model.
        replaces_model: whether a base has a model that must go first.
        phases: of progressive tokenization, where the recipe has its own.
    """

    bases: tuple[str, ...]
    body: str
    batch_name: str
    run_length: int
    by_epoch: bool = True
    gpus: int = 1
    loss: dict[str, Any] = field(default_factory=LABEL_SMOOTHING.copy)
    model_extra: dict[str, Any] = field(default_factory=dict)
    replaces_model: bool = False
    phases: tuple[dict[str, int], ...] = ()


def recipe(data: DataSource) -> Recipe:
    """The recipe for the kind of data."""
    return {
        'digits': _digits,
        'folder': _folder,
        'imagenet': _imagenet,
        'config': _user_config,
    }[data.kind](data)


def _digits(data: DataSource) -> Recipe:
    leaf = _read_shipped(DIGITS_LEAF)
    body = '\n'.join(
        [
            shipped_text('_base_/datasets/digits_bs64_32.py').replace(
                '(32, 32)', f'({data.img_size}, {data.img_size})'
            ),
            shipped_text('_base_/schedules/digits_adamw_60e.py'),
            shipped_assignments(DIGITS_LEAF, drop=('_base_', 'model', 'custom_hooks')),
        ]
    )
    return Recipe(
        (RUNTIME,),
        body,
        'b64',
        leaf.train_cfg.max_epochs,
        loss=leaf.model.head.loss.to_dict(),
        phases=tuple(phase.to_dict() for phase in leaf.custom_hooks[0].phases),
    )


@cache
def _read_shipped(name: str) -> Config:
    return Config.fromfile(shipped_config(name))


def _imagenet(data: DataSource) -> Recipe:
    body = (
        shipped_text('_base_/datasets/imagenet_bs128_224.py')
        + '\n'
        + shipped_text('_base_/schedules/imagenet_bs1024_adamw_asvit.py')
    )
    return Recipe(
        (SWIN_DATA, SWIN_SCHEDULE, RUNTIME),
        body,
        '8xb128',
        IMAGENET_EPOCHS,
        gpus=8,
        model_extra={'train_cfg': MIXING},
    )


def _folder(data: DataSource) -> Recipe:
    size = data.img_size
    topk = '(1, 5)' if data.num_classes > 5 else '(1,)'
    body = f"""
data_root = {data.root!r}
data_preprocessor = dict(
    num_classes={data.num_classes},
    mean={list(IMAGENET_MEAN)},
    std={list(IMAGENET_STD)},
    to_rgb=True,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale={size}, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='ResizeEdge',
        scale={round(size * 256 / 224)},
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size={size}),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size={FOLDER_BATCH},
    num_workers=4,
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix={data.train!r},
        with_label=True,
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
"""
    if data.val is not None:
        body += f"""val_dataloader = dict(
    batch_size={FOLDER_BATCH},
    num_workers=4,
    dataset=dict(
        type='CustomDataset',
        data_root=data_root,
        data_prefix={data.val!r},
        with_label=True,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk={topk})
test_dataloader = val_dataloader
test_evaluator = val_evaluator
"""
    else:
        body += NO_VALIDATION
    body += _rate_for(FOLDER_BATCH)
    return Recipe(
        (SWIN_SCHEDULE, RUNTIME),
        body,
        f'b{FOLDER_BATCH}',
        IMAGENET_EPOCHS,
        model_extra={'train_cfg': MIXING},
    )


def _rate_for(batch: int) -> str:
    return f"""
# The base's rate is for 1024 images a step.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3 * {batch} / 1024),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(custom_keys={{'.pos_embed': dict(decay_mult=0.0)}}),
)
auto_scale_lr = dict(base_batch_size={batch})
"""


def _user_config(data: DataSource) -> Recipe:
    settings = data.settings
    missing = [name for name in ('optim_wrapper', 'train_cfg') if settings.get(name) is None]
    data_only = not any(name in settings for name in SCHEDULE_FIELDS)
    if missing and not data_only:
        raise InputError(
            f'{data.root!r} has part of a schedule, but no {missing[0]!r}: give it a whole one, or '
            'none (it is then trained as an image folder is)'
        )
    model, train_cfg = settings.get('model') or {}, settings.get('train_cfg') or {}
    batch = (settings.get('train_dataloader') or {}).get('batch_size')
    epochs, iterations = train_cfg.get('max_epochs'), train_cfg.get('max_iters')
    kept = {name: model[name] for name in ('data_preprocessor', 'train_cfg') if model.get(name)}
    bases, body = [data.root], ''
    if data_only:
        bases.append(SWIN_SCHEDULE)
        kept.setdefault('train_cfg', MIXING)
        body += '' if settings.get('val_dataloader') else NO_VALIDATION
        body += _rate_for(batch or FOLDER_BATCH)
    if not settings.get('default_scope'):
        body += "default_scope = 'mmpretrain'\n"
    if settings.get('load_from'):
        body += 'load_from = None  # weights of another model\n'
    return Recipe(
        tuple(bases),
        body,
        f'b{batch}' if batch else 'run',
        epochs or iterations or IMAGENET_EPOCHS,
        by_epoch=bool(epochs) or not iterations,
        loss=(model.get('head') or {}).get('loss') or LABEL_SMOOTHING.copy(),
        model_extra=kept,
        replaces_model=bool(model),
    )
