"""As-ViT for OpenMMLab: training-free search, scaling and training of Vision Transformers.

Importing the package imports neither torch nor MMEngine; its modules do, when they are used.
"""

from asvit_mm.version import __version__

__all__ = ['__version__']
