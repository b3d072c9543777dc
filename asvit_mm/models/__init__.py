"""Models, registered in ``asvit_mm.registry.MODELS``."""

from .asvit import AsViT
from .vision_transformer import TokenizedBackbone, TokenizedVisionTransformer

__all__ = ['AsViT', 'TokenizedBackbone', 'TokenizedVisionTransformer']
