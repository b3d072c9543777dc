"""Hooks, registered in ``asvit_mm.registry.HOOKS``."""

from .progressive_tokenization import ProgressiveTokenizationHook

__all__ = ['ProgressiveTokenizationHook']
