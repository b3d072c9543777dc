"""Hooks, registered in ``asvit_mm.registry.HOOKS``."""

from .epoch_seed import EpochSeedHook
from .progressive_tokenization import ProgressiveTokenizationHook

__all__ = ['EpochSeedHook', 'ProgressiveTokenizationHook']
