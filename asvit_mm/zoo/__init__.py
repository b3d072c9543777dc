"""The model zoo's doors: after ``import asvit_mm.zoo`` other libraries know our models by name.

- mmpretrain: ``list_models('asvit*')``, ``get_model(NAME, pretrained=True)``,
  ``ImageClassificationInferencer(NAME)``;
- mmdet: ``DetInferencer(NAME, scope='asvit_mm')``, or ``DetInferencer(*asvit_mm.zoo.fetch(NAME))``;
- MMEngine: ``_base_ = 'asvit_mm::FOLDER/NAME.py'`` in a config.

Weights that come with the package are taken from there; others are downloaded and held to the SHA-256 in
their name. From then on MMEngine reads every checkpoint of this process as weights and plain data, and never
runs what is in one (:func:`asvit_mm.checkpoints.reading.secure_mmengine`). timm's door is
:mod:`asvit_mm.timm`.
"""

from mmengine.config.utils import MODULE2PACKAGE
from mmpretrain.apis import ModelHub

from ..checkpoints.reading import secure_mmengine
from .index import ZooModel, fetch, find, index_folder, list_models, models

__all__ = ['ZooModel', 'fetch', 'find', 'list_models']


def _open_doors() -> None:
    secure_mmengine()
    MODULE2PACKAGE.setdefault('asvit_mm', 'asvit_mm')
    # Detectors are no models of mmpretrain's. A module that is reloaded finds its models there.
    missing = [m for m in models().values() if not (m.detects or ModelHub.has(m.name))]
    for metafile in dict.fromkeys(model.metafile for model in missing):
        ModelHub.register_model_index(metafile, config_prefix=index_folder())


_open_doors()
