"""Models, registered in ``asvit_mm.registry.MODELS``."""

from .asvit import AsViT

__all__ = ['AsViT']
