"""As-ViT for OpenMMLab: training-free search, scaling and training of Vision Transformers.

Importing the package imports neither torch nor MMEngine; its modules do, when they are used, and so does
the first use of :func:`asvit_mm.search`, :func:`asvit_mm.scale` or :func:`asvit_mm.write_config`.
"""

from typing import TYPE_CHECKING, Any

from asvit_mm.version import __version__

if TYPE_CHECKING:
    from asvit_mm.api import Network, ScaleResult, SearchResult, scale, search, write_config

__all__ = [
    'Network', 'ScaleResult', 'SearchResult', '__version__', 'scale', 'search', 'write_config',
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The names of :mod:`asvit_mm.api`, imported when they are first used."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from asvit_mm import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
