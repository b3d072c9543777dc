"""Limits on parameters and multiply-adds, which are computed in closed form."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ..arch import SEARCH_SPACE, Architecture, SearchSpace
from ..cost import count_macs, count_params
from ..errors import InputError
from .space import Choices


@dataclass(frozen=True)
class Budget:
    """What the classifier of an architecture may cost.

    Args:
        num_classes: classes of its head.
        img_size: pixels a side of its images.
        max_params: parameters; None: no limit.
        max_macs: multiply-adds per image; None: no limit.
    """

    num_classes: int
    img_size: int
    max_params: int | None = None
    max_macs: int | None = None

    def params(self, arch: Architecture) -> int:
        """Parameters of the classifier."""
        return count_params(arch, self.num_classes, img_size=self.img_size)

    def macs(self, arch: Architecture) -> int:
        """Multiply-adds of the classifier per image."""
        return count_macs(arch, self.img_size, self.num_classes)

    def fits(self, arch: Architecture) -> bool:
        """Whether the classifier is within every limit."""
        return all(count(arch) <= limit for _, _, limit, count in self._limits)

    def __str__(self) -> str:
        """The limits in words: '3,000,000 parameters or 400,000,000 multiply-adds'."""
        return ' or '.join(f'{limit:,} {what}' for _, what, limit, _ in self._limits) or 'no limit'

    def choices(self, space: SearchSpace = SEARCH_SPACE) -> Choices:
        """The choices of a search within these limits.

        Raises:
            InputError: no seed is; names the least that one needs.
        """
        self.check(self.smallest_seeds(space), 'seed')
        return Choices(space, self.fits, self.macs) if self._limits else Choices(space)

    def smallest_seeds(self, space: SearchSpace = SEARCH_SPACE) -> list[Architecture]:
        """The seed with the fewest parameters and multiply-adds, with every number of heads.

        One seed has the fewest of both: kernels and expansions count in both, splits in multiply-adds
        only, and heads in neither at the widths of a seed.
        """
        smallest = Choices(space, self.fits, self.macs).smallest
        return [replace(smallest, heads=heads) for heads in space.choices['H']]

    def check(self, smallest: Iterable[Architecture], what: str) -> None:
        """Refuse limits that no network is within.

        Args:
            smallest: the networks that there are, at least the smallest by each limit.
            what: what one of them is called.

        Raises:
            InputError: none is within the limits; names the least that one needs.
        """
        networks = list(smallest)
        if any(map(self.fits, networks)):
            return
        for option, _, limit, count in self._limits:
            nearest = min(networks, key=count)
            if count(nearest) > limit:
                raise InputError(
                    f'{option} {limit:,} is less than the smallest {what} has ({nearest}): give at '
                    f'least {count(nearest):,}'
                )
        # Each limit alone can be met, so there are two: keep the second one and relax the first.
        (option, _, limit, count), (kept, _, most, other) = self._limits
        nearest = min((arch for arch in networks if other(arch) <= most), key=count)
        raise InputError(
            f'no {what} keeps {option} {limit:,} and {kept} {most:,} together: with the latter give '
            f'{option} at least {count(nearest):,} ({nearest})'
        )

    @property
    def _limits(self) -> list[tuple[str, str, int, Callable[[Architecture], int]]]:
        """Option, what it counts, limit and count, of each limit that is set."""
        limits = (
            ('--max-params', 'parameters', self.max_params, self.params),
            ('--max-flops', 'multiply-adds', self.max_macs, self.macs),
        )
        return [(option, what, m, count) for option, what, m, count in limits if m is not None]
