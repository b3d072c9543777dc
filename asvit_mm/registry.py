"""The package's own registries, children of MMEngine's root registries.

MMEngine imports ``<scope>.registry`` for a type with a scope, so every OpenMMLab codebase builds
``type='asvit_mm.AsViT'`` without ``custom_imports``.
"""

from importlib import import_module

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_SCHEDULERS
from mmengine.registry import Registry

LAZY_MODELS = {
    'TokenizedVisionTransformer': 'asvit_mm.models.vision_transformer',
    'SelfDistilledClassifier': 'asvit_mm.models.distillation',
}


class ModelRegistry(Registry):
    """A registry that imports the models that need mmpretrain's on first use.

    So an installation in which these cannot be imported still has all other models.
    """

    def get(self, key: str) -> type | None:
        """The class called ``key``, ``NAME`` or ``asvit_mm.NAME``; see MMEngine."""
        module = LAZY_MODELS.get(key.removeprefix('asvit_mm.'))
        if module is not None:
            import_module(module)
        found: type | None = super().get(key)
        return found


MODELS = ModelRegistry(
    'model', parent=MMENGINE_MODELS, scope='asvit_mm', locations=['asvit_mm.models']
)
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='asvit_mm',
    locations=['asvit_mm.engine.hooks', 'asvit_mm.engine.run_shares'],
)
PARAM_SCHEDULERS = Registry(
    'parameter scheduler',
    parent=MMENGINE_SCHEDULERS,
    scope='asvit_mm',
    locations=['asvit_mm.engine.run_shares'],
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
