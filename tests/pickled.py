"""Pickles that run something."""

from collections.abc import Callable
from typing import Any


class Calls:
    """Pickled as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call
