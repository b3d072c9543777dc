"""As-ViT for OpenMMLab: training-free search, scaling and training of Vision Transformers.

Importing the package imports neither torch nor MMEngine; its modules do, when they are used, and so does
the first use of :func:`asvit_mm.search`, :func:`asvit_mm.scale`, :func:`asvit_mm.write_config` or
:func:`asvit_mm.save_pretrained`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asvit_mm.version import __version__

if TYPE_CHECKING:
    from asvit_mm.api import Network, ScaleResult, SearchResult, scale, search, write_config
    from asvit_mm.hub import save_pretrained

__all__ = [
    'Network', 'ScaleResult', 'SearchResult', '__version__', 'save_pretrained', 'scale', 'search',
    'write_config',
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The names of :mod:`asvit_mm.api` and :mod:`asvit_mm.hub`, imported when they are first used."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = import_module('asvit_mm.hub' if name == 'save_pretrained' else 'asvit_mm.api')
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
