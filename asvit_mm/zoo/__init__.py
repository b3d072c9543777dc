"""The model zoo: importing it registers our models, so that other libraries know them by name.

- mmpretrain: ``list_models('asvit*')``, ``get_model(NAME, pretrained=True)``,
  ``ImageClassificationInferencer(NAME)``;
- mmdet: ``DetInferencer(NAME, scope='asvit_mm')``, or ``DetInferencer(*asvit_mm.zoo.fetch(NAME))``;
- MMEngine: ``_base_ = 'asvit_mm::FOLDER/NAME.py'`` in a config, and ``'mmseg::FOLDER/NAME.py'``.

Weights that come with the package are used from there; others are downloaded and checked against the SHA-256
in their name. From then on MMEngine reads every checkpoint of this process as weights and plain data, and
never runs what is in one (:func:`asvit_mm.checkpoints.reading.secure_mmengine`). For timm see
:mod:`asvit_mm.timm`.
"""

from mmpretrain.apis import ModelHub

from ..checkpoints.reading import secure_mmengine
from ..engine.config import name_sources
from .index import ZooModel, fetch, find, index_folder, list_models, models

__all__ = ['ZooModel', 'fetch', 'find', 'list_models']


def _register() -> None:
    secure_mmengine()
    name_sources()
    # mmpretrain has classifiers alone. A module that is reloaded finds its models registered.
    missing = [m for m in models().values() if m.classifies and not ModelHub.has(m.name)]
    for metafile in dict.fromkeys(model.metafile for model in missing):
        ModelHub.register_model_index(metafile, config_prefix=index_folder())


_register()
