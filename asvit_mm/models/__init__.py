"""Models, registered in ``asvit_mm.registry.MODELS``."""

from .asvit import AsViT
from .tokenized import TokenizedBackbone, TokenizedVisionTransformer

__all__ = ['AsViT', 'TokenizedBackbone', 'TokenizedVisionTransformer']
