"""One folder that every loader opens: see :func:`save_pretrained`."""

from .folder import AsViTForImageClassification, save_pretrained

__all__ = ['AsViTForImageClassification', 'save_pretrained']
