"""How each kind of data is trained: everything in a config that does not depend on the architecture."""

from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config

from ..data.image_sets import DIGITS
from ..data.source import DataSource
from ..errors import InputError
from .shipped import shipped_config, shipped_text
from .text import code, code_lines

IMAGENET_EPOCHS = 300
FOLDER_BATCH = 64
FOLDER_DATA = '_base_/datasets/image_folder_bs64_224.py'
DIGITS_LEAF = 'digits/asvit-seed_b64-progressive_digits.py'
DIGITS_RUNTIME = (
    'default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=5, max_keep_ckpts=1))\n'
    'randomness = dict(seed=0)\n'
)

LABEL_SMOOTHING = {'type': 'LabelSmoothLoss', 'label_smooth_val': 0.1, 'mode': 'original'}
MIXING = {'augments': [{'type': 'Mixup', 'alpha': 0.8}, {'type': 'CutMix', 'alpha': 1.0}]}
RUNTIME = 'mmpretrain::_base_/default_runtime.py'
SWIN_DATA = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'
SWIN_SCHEDULE = 'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py'
SCHEDULE_FIELDS = (
    'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'auto_scale_lr',
)  # fmt: skip
VALIDATION = ('val_dataloader', 'val_evaluator', 'test_dataloader', 'test_evaluator')
NO_VALIDATION = """# Nothing to validate on; once there is, give the dataloaders instead of these.
val_cfg = None
test_cfg = None
"""


@dataclass(frozen=True)
class Recipe:
    """All of a config but the architecture.

    Attributes:
        bases: its ``_base_``.
        body: text of its data, optimizer and schedule.
        batch_name: GPUs and batch size in its file name.
        run_length: length of the run in epochs (``by_epoch``) or iterations.
        gpus: number of GPUs that it is made for.
        loss: the head's loss.
        model_extra: further fields of the model.
        replaces_model: whether a base has a model that must be deleted.
        phases: of progressive tokenization, if the recipe has its own.
        expected: what must be read back: dotted names of fields and their values.
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
    expected: dict[str, Any] = field(default_factory=dict)


def recipe(data: DataSource) -> Recipe:
    """The recipe for the kind of data.

    Raises:
        InputError: a user's config with part of a schedule.
    """
    if data.config is not None:
        return _user_config(data, data.config)
    return {'digits': _digits, 'folder': _folder, 'imagenet': _imagenet}[data.kind](data)


def _digits(data: DataSource) -> Recipe:
    leaf = Config.fromfile(shipped_config(DIGITS_LEAF))
    dataset = shipped_text('_base_/datasets/digits_bs64_32.py')
    body = [
        dataset.replace('(32, 32)', f'({data.img_size}, {data.img_size})'),
        shipped_text('_base_/schedules/digits_adamw_60e.py'),
        DIGITS_RUNTIME,
    ]
    return Recipe(
        (RUNTIME,),
        '\n'.join(body),
        'b64',
        leaf.train_cfg.max_epochs,
        loss=leaf.model.head.loss.to_dict(),
        phases=tuple(phase.to_dict() for phase in leaf.custom_hooks[0].phases),
        expected={'train_dataloader.dataset.data_root': DIGITS.root},
    )


def _imagenet(data: DataSource) -> Recipe:
    body = [
        shipped_text('_base_/datasets/imagenet_bs128_224.py'),
        shipped_text('_base_/schedules/imagenet_bs1024_adamw_asvit.py'),
    ]
    return Recipe(
        (SWIN_DATA, SWIN_SCHEDULE, RUNTIME),
        '\n'.join(body),
        '8xb128',
        IMAGENET_EPOCHS,
        gpus=8,
        model_extra={'train_cfg': MIXING},
    )


def _folder(data: DataSource) -> Recipe:
    assert data.folder is not None
    folder = data.folder
    own = {
        'data_root': data.root,
        'train_prefix': folder.train,
        'val_prefix': folder.val,
        'img_size': data.img_size,
    }
    assignments = ''.join(f'{name} = {code(value)}\n' for name, value in own.items())
    body = [
        f'{assignments}classes = {code_lines(folder.classes)}\n',
        shipped_text(FOLDER_DATA, drop=(*own, 'classes', *(() if folder.val else VALIDATION))),
        *([] if folder.val else [NO_VALIDATION]),
        _optimizer_for(FOLDER_BATCH),
    ]
    return Recipe(
        (SWIN_SCHEDULE, RUNTIME),
        '\n'.join(body),
        f'b{FOLDER_BATCH}',
        IMAGENET_EPOCHS,
        model_extra={'train_cfg': MIXING},
        expected={
            'train_dataloader.dataset.data_root': data.root,
            'train_dataloader.dataset.data_prefix': folder.train,
            'train_dataloader.dataset.classes': folder.classes,
        },
    )


def _optimizer_for(batch: int) -> str:
    return f"""# The base's rate is for 1024 images a step.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3 * {batch} / 1024),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(custom_keys={{'.pos_embed': dict(decay_mult=0.0)}}),
)
auto_scale_lr = dict(base_batch_size={batch})
"""


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
    bases, body = [data.root], ''
    if data_only:
        bases.append(SWIN_SCHEDULE)
        kept.setdefault('train_cfg', MIXING)
        body += '' if config.get('val_dataloader') else f'{NO_VALIDATION}\n'
        body += _optimizer_for(batch or FOLDER_BATCH)
    if not config.get('default_scope'):
        body += "default_scope = 'mmpretrain'\n"
    if config.get('load_from'):
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
