"""Models, registered in ``asvit_mm.registry.MODELS``.

:mod:`~asvit_mm.models.vision_transformer` and :mod:`~asvit_mm.models.distillation` are not imported here but
by the registry, on first use: they need mmpretrain's models, the backbone does not.
"""

from .asvit import AsViT

__all__ = ['AsViT']
