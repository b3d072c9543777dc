"""How each kind of data is trained: everything in a config that does not depend on the architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from ..data.source import DataSource
from ..engine.config import is_pure_python
from ..errors import InputError
from .image_folder import (
    MIXING,
    NO_VALIDATION,
    folder_settings,
    folder_text,
    plan_hooks,
    plan_training,
    schedule_text,
)
from .shipped import shipped_config, shipped_text

IMAGENET_EPOCHS = 300
DIGITS_SCHEDULE = '_base_/schedules/digits_adamw_60e.py'
DIGITS_RUNTIME = """
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=5, max_keep_ckpts=1))
randomness = dict(seed=0)
"""

LABEL_SMOOTHING = {'type': 'LabelSmoothLoss', 'label_smooth_val': 0.1, 'mode': 'original'}
RUNTIME = 'mmpretrain::_base_/default_runtime.py'
SWIN_DATA = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'
SWIN_SCHEDULE = 'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py'
SCHEDULE_FIELDS = (
    'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'auto_scale_lr',
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything in a config that does not depend on the architecture.

    Attributes:
        bases: of the config.
        body: text of its data, optimizer and schedule.
        batch_name: GPUs and batch size in its file name.
        run_length: length of the run in epochs (``by_epoch``) or iterations.
        gpus: number of GPUs that it is made for.
        loss: the head's loss.
        model: further fields of the model.
        replaces_model: whether a base has a model that must be deleted.
        phases: of progressive tokenization, if the recipe has its own.
        settings: names that the config assigns first.
        hooks: further hooks.
        reasons: of the choice, for the config's header.
        drop_path_share: share of a network's stochastic depth that the run can bear.
    """

    bases: list[str]
    body: str
    batch_name: str
    run_length: int = IMAGENET_EPOCHS
    by_epoch: bool = True
    gpus: int = 1
    loss: dict[str, Any] = field(default_factory=LABEL_SMOOTHING.copy)
    model: dict[str, Any] = field(default_factory=dict)
    replaces_model: bool = False
    phases: tuple[dict[str, int], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    hooks: list[dict[str, Any]] = field(default_factory=list)
    reasons: tuple[str, ...] = ()
    drop_path_share: float = 1.0


@dataclass(frozen=True)
class RecipeOptions:
    """What is given instead of chosen by the data, for an image folder.

    Attributes:
        epochs, batch_size: of the run; None: chosen.
        finetune: whether training starts from weights of other images.
        normalization: ``mean`` and ``std`` that these weights expect.
    """

    epochs: int | None = None
    batch_size: int | None = None
    finetune: bool = False
    normalization: Mapping[str, Any] | None = None


def recipe(data: DataSource, options: RecipeOptions = RecipeOptions()) -> Recipe:
    """The recipe for the kind of data.

    Raises:
        InputError: a user's config with part of a schedule, or options for data with a recipe of its own.
    """
    if data.kind == 'folder':
        return _folder(data, options)
    if options.epochs or options.batch_size:
        raise InputError(
            f'{data.spec} has a recipe of its own: leave --epochs and --batch-size out, and give '
            '--cfg-options to tools/train.py'
        )
    if data.config is not None:
        return _user_config(data, data.config)
    return {'digits': _digits, 'imagenet': _imagenet}[data.kind](data)


def _digits(data: DataSource) -> Recipe:
    schedule = Config.fromfile(shipped_config(DIGITS_SCHEDULE))
    dataset = shipped_text('_base_/datasets/digits_bs64_32.py')
    dataset = dataset.replace('(32, 32)', f'({data.img_size}, {data.img_size})')
    return Recipe(
        [RUNTIME],
        '\n\n'.join([dataset, shipped_text(DIGITS_SCHEDULE), DIGITS_RUNTIME.strip()]),
        'b64',
        schedule.train_cfg.max_epochs,
        phases=tuple(phase.to_dict() for phase in schedule.custom_hooks[0].phases),
    )


def _imagenet(data: DataSource) -> Recipe:
    body = [
        shipped_text('_base_/datasets/imagenet_bs128_224.py'),
        shipped_text('_base_/schedules/imagenet_bs1024_adamw_asvit.py'),
    ]
    bases = [SWIN_DATA, SWIN_SCHEDULE, RUNTIME]
    return Recipe(bases, '\n\n'.join(body), '8xb128', gpus=8, model={'train_cfg': MIXING})


def _folder(data: DataSource, options: RecipeOptions) -> Recipe:
    assert data.folder is not None
    plan = plan_training(
        data.img_size,
        len(data.folder.files),
        data.num_classes,
        epochs=options.epochs,
        batch_size=options.batch_size,
        finetune=options.finetune,
    )
    text = folder_text(data, plan, options.normalization)
    body = f'{text}{schedule_text(plan, validated=bool(data.folder.val))}'
    return Recipe(
        [RUNTIME],
        body,
        f'b{plan.batch_size}',
        plan.epochs,
        model={'train_cfg': MIXING} if plan.mixing else {},
        settings=folder_settings(data, plan),
        hooks=plan_hooks(plan),
        reasons=plan.reasons,
        drop_path_share=plan.drop_path_share,
    )


def _user_config(data: DataSource, config: Config) -> Recipe:
    missing = [name for name in ('optim_wrapper', 'train_cfg') if config.get(name) is None]
    data_only = not any(name in config for name in SCHEDULE_FIELDS)
    if missing and not data_only:
        raise InputError(
            f'{data.root!r} has part of a schedule, but no {missing[0]!r}: give it a whole one, or '
            'none (it is then trained as an image folder is)'
        )
    model, train_cfg = config.get('model') or {}, config.get('train_cfg') or {}
    batch = (config.get('train_dataloader') or {}).get('batch_size')
    epochs, iterations = train_cfg.get('max_epochs'), train_cfg.get('max_iters')
    kept = {name: model[name] for name in ('data_preprocessor', 'train_cfg') if model.get(name)}
    settings: dict[str, Any] = {}
    bases, body = [data.root], ''
    if embedded := is_pure_python(data.root):
        # It cannot be a base of a config of this style.
        bases, settings = [], {k: v for k, v in config.to_dict().items() if k != 'model'}
    if not config.get('default_scope'):
        settings['default_scope'] = 'mmpretrain'
    if config.get('load_from'):
        settings['load_from'] = None  # weights of another model
    plan = None
    if data_only:
        plan = plan_training(data.img_size, None, data.num_classes, batch_size=batch)
        settings['batch_size'] = plan.batch_size
        validated = bool(config.get('val_dataloader'))
        body = '' if validated else NO_VALIDATION
        body += schedule_text(plan, validated=validated, best=None)
        epochs = plan.epochs
    return Recipe(
        bases,
        body,
        f'b{batch}' if batch else 'run',
        epochs or iterations or IMAGENET_EPOCHS,
        reasons=(f'Recipe of {plan.epochs} epochs:', plan.reasons[-1]) if plan else (),
        by_epoch=bool(epochs) or not iterations,
        loss=(model.get('head') or {}).get('loss') or LABEL_SMOOTHING.copy(),
        model=kept,
        replaces_model=bool(model) and not embedded,
        settings=settings,
    )
