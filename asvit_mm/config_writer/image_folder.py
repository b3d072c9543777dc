"""How an image folder is trained, chosen from the size, the number and the classes of its images.

The recipes follow what the field trains small vision transformers with from scratch: AdamW, label smoothing,
a short warm-up and a cosine; the longer the run, the stronger the augmentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data.images import channel_statistics
from ..data.source import IMAGENET_SIZE, DataSource

# Images of up to this many pixels a side are cropped out of a padded frame, not enlarged from a part.
SMALL_SIDE = 64
# Epochs that show a network about five million images, within a range; the published 300 for large sets, and
# in proportion for those that are nearly as large.
SHOWN_IMAGES, LARGE_SET = 5_000_000, 200_000
EPOCH_RANGE = (100, 300)
FINETUNE_EPOCHS = 30
# From these epochs on, images are augmented by colour and shape too, and pairs of them are mixed.
STRONG_EPOCHS = 30
MIXING_EPOCHS, MIXING_IMAGES, MIXING_SHARE = 200, 20_000, 0.9
FULL_DROP_PATH_EPOCHS = 100

# The learning rate for 128 images a step; for other batches in proportion.
RATE, RATE_BATCH = 1e-3, 128
FINETUNE_RATE = 2.5e-4
MIXING = {'augments': [{'type': 'Mixup', 'alpha': 0.8}, {'type': 'CutMix', 'alpha': 1.0}]}
SEED = 0
NO_VALIDATION = (
    '# Nothing to validate on: give val_dataloader, val_evaluator and val_cfg once there is.\n'
)


@dataclass(frozen=True)
class TrainingPlan:
    """What is chosen for a set of images.

    Attributes:
        epochs, batch_size: of the run; the batch is that of one process.
        finetune: whether it starts from weights of other images.
        small: whether images are so small that crops come from a padded frame.
        strong: whether RandAugment and random erasing are applied.
        mixing: whether Mixup and CutMix are.
        reasons: of the choice, one a line.
    """

    epochs: int
    batch_size: int
    finetune: bool
    small: bool
    strong: bool
    mixing: bool
    reasons: tuple[str, ...]

    @property
    def drop_path_share(self) -> float:
        """Share of a network's stochastic depth that a run of this length can bear."""
        return min(1.0, self.epochs / FULL_DROP_PATH_EPOCHS)


def plan_training(
    img_size: int,
    images: int | None,
    classes: int,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    finetune: bool = False,
) -> TrainingPlan:
    """The plan for ``images`` (None: unknown) images of ``img_size`` pixels a side in ``classes`` classes.

    Args:
        epochs, batch_size: what is given instead of chosen.
        finetune: start from weights of other images: fewer epochs at a lower rate.
    """
    if epochs is None:
        epochs = FINETUNE_EPOCHS if finetune else _chosen_epochs(images)
    if batch_size is None:
        batch_size = 128 if (images or 0) >= 10_000 else 64 if (images or 10_000) >= 1_000 else 32
    small, strong = img_size <= SMALL_SIDE, epochs >= STRONG_EPOCHS
    many = (images or 0) >= MIXING_IMAGES
    mixing = epochs >= MIXING_EPOCHS and many and not finetune
    count = f'{images:,} images' if images else 'images'
    crops = (
        'small images: crops of the padded image, and whole images at the training size in validation'
        if small
        else 'crops of a random size and place'
        + ('; whole images at the training size in validation' * (img_size < IMAGENET_SIZE))
    )
    strength = 'RandAugment and random erasing' if strong else 'crops and flips alone'
    against = f'under {STRONG_EPOCHS} epochs more only slows training; ' * (not strong)
    mixed = (
        f'Mixup and CutMix, which end after {MIXING_SHARE:.0%} of the run'
        if mixing
        else f'no Mixup or CutMix, which take at least {MIXING_EPOCHS} epochs and {MIXING_IMAGES:,} images'
    )
    reasons = (
        f'Recipe for {count} of {img_size}x{img_size} pixels in {classes} classes, {epochs} epochs'
        f'{" from pretrained weights" * finetune}:',
        f'- {crops}',
        f'- {strength}; {against}{mixed}',
        f'- learning rate for a batch of {RATE_BATCH}, in proportion to the batch; warm-up and end are '
        'shares of the run, so every train_cfg.max_epochs works',
    )
    return TrainingPlan(epochs, batch_size, finetune, small, strong, mixing, reasons)


def _chosen_epochs(images: int | None) -> int:
    """Epochs of a run from scratch: they change with the number of images without a jump."""
    least, most = EPOCH_RANGE
    if not images:
        return least
    return round(max(least, min(max(SHOWN_IMAGES / images, most * images / LARGE_SET), most)))


def folder_settings(data: DataSource, plan: TrainingPlan) -> dict[str, Any]:
    """The names that the config of an image folder assigns first."""
    assert data.folder is not None
    return {
        'data_root': data.root,
        'train_prefix': data.folder.train,
        'val_prefix': data.folder.val,
        'classes': list(data.folder.classes),
        'img_size': data.img_size,
        'batch_size': plan.batch_size,
    }


def folder_text(
    data: DataSource, plan: TrainingPlan, normalization: Mapping[str, Any] | None = None
) -> str:
    """The text of the data, after :func:`folder_settings`.

    Args:
        normalization: ``mean`` and ``std`` that pretrained weights expect; None: those of the images.
    """
    assert data.folder is not None
    norm = normalization or channel_statistics(data.folder)
    # Images are loaded as BGR.
    fill, spread = ([round(value) for value in norm[name][::-1]] for name in ('mean', 'std'))
    text = f"""
data_preprocessor = dict(
    num_classes=len(classes), mean={norm['mean']}, std={norm['std']}, to_rgb=True
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    {_small_crop(fill) if plan.small else _zoom_crop(plan)}
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
{_strong_augmentation(fill, spread) if plan.strong else ''}    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale={_resize(data.img_size)}, edge='short', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=img_size),
    dict(type='PackInputs'),
]
{_loader('train')}"""
    return text + (_validation(data.num_classes) if data.folder.val else NO_VALIDATION)


def schedule_text(
    plan: TrainingPlan, *, validated: bool = True, best: str | None = 'accuracy/top1'
) -> str:
    """The text of the optimizer, the schedule and the runtime, which uses the name ``batch_size``.

    Args:
        validated: whether there is data to validate on.
        best: the metric by which the best checkpoint is kept, if any.
    """
    rate = FINETUNE_RATE if plan.finetune else RATE
    warmup = 0.05 if plan.epochs >= STRONG_EPOCHS else 0.1
    kept = f", save_best={best!r}, rule='greater'" if validated and best else ''
    optimizer = optimizer_text(rate, RATE_BATCH, 1.0, warmup, flat='flat_decay_mult=0.0')
    return f"""{optimizer}
train_cfg = dict(by_epoch=True, max_epochs={plan.epochs}, val_interval=1)
{'val_cfg = dict()' if validated else 'val_cfg = None'}
{'test_cfg = dict()' if validated else 'test_cfg = None'}
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=1, max_keep_ckpts=1{kept}),
)
randomness = dict(seed={SEED})"""


def optimizer_text(
    rate: float, rate_batch: int, clip: float, warmup: float, *, wrapper: str = '', flat: str = ''
) -> str:
    """The text of AdamW and a cosine after a warm-up; the name ``batch_size`` scales the rate.

    Args:
        rate: learning rate for ``rate_batch`` images a step.
        clip: norm of the gradients, at most.
        warmup: share of the run.
        wrapper, flat: further arguments of optim_wrapper, and of its paramwise_cfg.
    """
    first, last = (f'    {wrapper},\n' * bool(wrapper), f'        {flat},\n' * bool(flat))
    return f"""
optim_wrapper = dict(
{first}    optimizer=dict(
        type='AdamW', lr={rate} * batch_size / {rate_batch}, weight_decay=0.05, betas=(0.9, 0.999)
    ),
    clip_grad=dict(max_norm={clip}),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
{last}        custom_keys={{'.pos_embed': dict(decay_mult=0.0)}},
    ),
)
auto_scale_lr = dict(base_batch_size=batch_size)
# Shares of the run and of the learning rate: they hold for any number of epochs.
param_scheduler = [
    dict(
        type='asvit_mm.WarmupCosineLR', warmup={warmup}, eta_min_ratio=0.01, convert_to_iter_based=True
    )
]"""


def plan_hooks(plan: TrainingPlan) -> list[dict[str, Any]]:
    """Hooks of the plan: a resumed run is the same as one that was not interrupted, and mixing ends."""
    mixing = [{'type': 'asvit_mm.EndMixingHook', 'share': MIXING_SHARE}] if plan.mixing else []
    return [{'type': 'asvit_mm.EpochSeedHook'}, *mixing]


def _resize(img_size: int) -> str:
    return 'img_size' if img_size < IMAGENET_SIZE else 'round(img_size * 256 / 224)'


def _small_crop(fill: list[int]) -> str:
    return f"""dict(type='ResizeEdge', scale=img_size, edge='short', interpolation='bicubic'),
    dict(type='RandomCrop', crop_size=img_size, padding=img_size // 8, pad_val={tuple(fill)}),"""


def _zoom_crop(plan: TrainingPlan) -> str:
    # Small parts of an image are hard examples: too hard for a short run.
    least = 0.08 if plan.epochs >= FULL_DROP_PATH_EPOCHS else 0.35
    return f"""dict(
        type='RandomResizedCrop',
        scale=img_size,
        crop_ratio_range=({least}, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),"""


def _strong_augmentation(fill: list[int], spread: list[int]) -> str:
    return f"""    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val={fill}, interpolation='bicubic'),
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        max_area_ratio=1 / 3,
        fill_color={fill},
        fill_std={spread},
    ),
"""


def _loader(split: str) -> str:
    pipeline = 'train_pipeline' if split == 'train' else 'test_pipeline'
    # EpochSeedHook seeds the workers of training in every epoch.
    persistent = '    persistent_workers=False,\n' if split == 'train' else ''
    return f"""{split}_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
{persistent}    dataset=dict(
        type='asvit_mm.ImageFolder',
        data_root=data_root,
        data_prefix={split}_prefix,
        classes=classes,
        pipeline={pipeline},
    ),
    sampler=dict(type='DefaultSampler', shuffle={split == 'train'}),
)
"""


def _validation(num_classes: int) -> str:
    topk = '(1, 5)' if num_classes > 5 else '(1,)'
    return f"""{_loader('val')}val_evaluator = dict(type='Accuracy', topk={topk})
test_dataloader = val_dataloader
test_evaluator = val_evaluator
"""
