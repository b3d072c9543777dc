"""Models, registered in ``asvit_mm.registry.MODELS``.

:mod:`~asvit_mm.models.vision_transformer` is imported by the registry when it is asked for: it stands on
mmpretrain's models, which the backbone does without.
"""

from .asvit import AsViT

__all__ = ['AsViT']
