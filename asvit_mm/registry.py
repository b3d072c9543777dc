"""The package's own registries, children of MMEngine's root.

MMEngine imports ``<scope>.registry`` for a type that carries a scope, so every OpenMMLab codebase
builds ``type='asvit_mm.AsViT'`` without a custom import.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='asvit_mm', locations=['asvit_mm.models'])
HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='asvit_mm', locations=['asvit_mm.engine.hooks']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_CONSTRUCTORS,
    scope='asvit_mm',
    locations=['asvit_mm.engine.layer_decay'],
)
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='asvit_mm', locations=['asvit_mm.data.dataset']
)
