"""Architectures as immutable, validated values, their string form, and the search space.

Source: As-ViT (arXiv 2202.11921), section 3 and appendix; the string form is that of the published code.

    seed    K1,S1,E1|K2,S2,E2|K3,S3,E3|K4,S4,E4|H
    scaled  K1,S1,E1,L1|K2,S2,E2,L2|K3,S3,E3,L3|K4,S4,E4,L4|H,C
    either, with tokens every P pixels instead of every 4:  ...|H/P  ...|H,C/P

K is the kernel size of the patch embedding (stage 1) or of the patch merging before the stage, S the number
of windows per side, E the expansion of the feed-forward layers, L the number of blocks, H the number of heads
in stage 4, C the width of stage 1 and P the stride of the patch embedding, which the paper fixes at 4 for
images of 224 pixels; smaller images need finer tokens. This module does not import torch.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np

NUM_STAGES = 4
MAX_WIDTH = 1024
MAX_DEPTH = 1000
SEED_DEPTHS = (1, 1, 1, 1)
SEED_WIDTH = 32
BASE_STRIDE = 4

KERNEL_CHOICES = ((4, 5, 6, 7, 8), (2, 3, 4), (2, 3, 4), (2, 3, 4))
SPLIT_CHOICES = ((2, 4, 8), (1, 2, 4), (1, 2), (1,))
EXPANSION_CHOICES = ((2, 3, 4, 5, 6),) * NUM_STAGES
HEAD_CHOICES = (16, 32, 64)
STRIDE_CHOICES = (1, 2, 4)

_DICT_KEYS = ('kernels', 'splits', 'expansions', 'heads', 'depths', 'width', 'stride')
SEED_GRAMMAR = 'K1,S1,E1|K2,S2,E2|K3,S3,E3|K4,S4,E4|H'
SCALED_GRAMMAR = 'K1,S1,E1,L1|K2,S2,E2,L2|K3,S3,E3,L3|K4,S4,E4,L4|H,C'


class ArchitectureError(InputError):
    """An invalid architecture; the message names the field, its value and the allowed values."""


def _check(name: str, value: object, allowed: Sequence[int]) -> None:
    if type(value) is not int or value not in allowed:
        hint = f'choose from {", ".join(map(str, allowed))}'
        if isinstance(allowed, range):
            hint = f'give an integer from {allowed[0]} to {allowed[-1]}'
        raise ArchitectureError(f'{name} = {value!r} is not allowed: {hint}')


def _plain(value: Any) -> Any:
    # Integers of numpy are converted, so that equal architectures have the same string.
    return int(value) if isinstance(value, Integral) and type(value) is not bool else value


@dataclass(frozen=True)
class Architecture:
    """One As-ViT architecture.

    Args:
        kernels: K1 of the patch embedding, K2-K4 of the patch merging before stages 2-4.
        splits: S1-S4; the windows of stage i have (token grid / S_i) tokens per side.
        expansions: E1-E4, hidden width of the feed-forward layers relative to the width of the stage.
        heads: H, number of heads in stage 4; stages 1-4 have H/8, H/4, H/2 and H.
        depths: L1-L4, number of blocks per stage.
        width: C, width of stage 1; stages 1-4 have C, 2C, 4C and 8C, each at most 1024.
        stride: P, pixels between two tokens of stage 1: the stride of the patch embedding.
        seed_form: print without depths and width. Affects ``str`` only: a seed equals its scaled form
            with depths 1,1,1,1 and width 32.

    Raises:
        ArchitectureError: a field has a value that is not allowed.
    """

    kernels: tuple[int, ...]
    splits: tuple[int, ...]
    expansions: tuple[int, ...]
    heads: int
    depths: tuple[int, ...] = SEED_DEPTHS
    width: int = SEED_WIDTH
    stride: int = BASE_STRIDE
    seed_form: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ('kernels', 'splits', 'expansions', 'depths'):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise ArchitectureError(
                    f'{name} = {value!r} is not a list of {NUM_STAGES} integers'
                )
            if len(value) != NUM_STAGES:
                raise ArchitectureError(
                    f'{name} = {list(value)} has {len(value)} values: give {NUM_STAGES}, one per stage'
                )
            object.__setattr__(self, name, tuple(map(_plain, value)))
        for name in ('heads', 'width', 'stride'):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        for i in range(NUM_STAGES):
            _check(f'K{i + 1} (kernel)', self.kernels[i], KERNEL_CHOICES[i])
            _check(f'S{i + 1} (split)', self.splits[i], SPLIT_CHOICES[i])
            _check(f'E{i + 1} (expansion)', self.expansions[i], EXPANSION_CHOICES[i])
            _check(f'L{i + 1} (depth)', self.depths[i], range(1, MAX_DEPTH + 1))
        _check('H (heads)', self.heads, HEAD_CHOICES)
        _check('C (width)', self.width, range(1, MAX_WIDTH + 1))
        _check('P (stride)', self.stride, STRIDE_CHOICES)
        for i, (width, heads) in enumerate(zip(self.widths, self.stage_heads, strict=True)):
            if width < heads:
                raise ArchitectureError(
                    f'C (width) = {self.width} is not allowed: stage {i + 1} would have more heads '
                    f'({heads}) than its width ({width}); choose C >= {self.heads // 8}'
                )
        if self.seed_form and not self.is_seed:
            raise ArchitectureError(
                f'depths {list(self.depths)} and width {self.width} have no seed form, which implies '
                f'depths 1,1,1,1 and width {SEED_WIDTH}; write {SCALED_GRAMMAR}'
            )

    @classmethod
    def parse(cls, text: str) -> 'Architecture':
        """Parse an architecture string of either form; ``str`` of the result is the same string."""
        if not isinstance(text, str):
            raise ArchitectureError(f'{text!r} is not an architecture string ({SEED_GRAMMAR})')
        numbers, slash, given = text.partition('/')
        groups = [group.split(',') for group in numbers.split('|')]
        seed_form = max(map(len, groups[:NUM_STAGES])) <= 3
        grammar = SEED_GRAMMAR if seed_form else SCALED_GRAMMAR
        expected = [names.split(',') for names in grammar.split('|')]
        if len(groups) != len(expected):
            raise ArchitectureError(
                f'architecture {text!r} has {len(groups)} groups separated by "|": expected '
                f'{len(expected)}, {SEED_GRAMMAR} or {SCALED_GRAMMAR}'
            )
        values = []
        try:
            for i, (names, group) in enumerate(zip(expected, groups, strict=True)):
                if len(group) != len(names):
                    raise ArchitectureError(
                        f'group {i + 1} = {",".join(group)!r} has {len(group)} values, expected '
                        f'{",".join(names)} ({grammar})'
                    )
                values.append(list(map(_parse_int, names, group)))
            kernels, splits, expansions, *rest = zip(*values[:NUM_STAGES], strict=True)
            depths = SEED_DEPTHS if seed_form else rest[0]
            heads, width = values[-1][0], SEED_WIDTH if seed_form else values[-1][1]
            stride = _parse_int('P', given) if slash else BASE_STRIDE
            if slash and stride == BASE_STRIDE:
                raise ArchitectureError(f'/{stride} is what holds without it: leave it out')
            return cls(
                kernels, splits, expansions, heads, depths, width, stride, seed_form=seed_form
            )
        except ArchitectureError as error:
            raise ArchitectureError(f'architecture {text!r}: {error}') from None

    def __str__(self) -> str:
        columns = [self.kernels, self.splits, self.expansions]
        if not self.seed_form:
            columns.append(self.depths)
        stages = [','.join(map(str, stage)) for stage in zip(*columns, strict=True)]
        last = str(self.heads) if self.seed_form else f'{self.heads},{self.width}'
        stride = '' if self.stride == BASE_STRIDE else f'/{self.stride}'
        return '|'.join([*stages, last]) + stride

    @property
    def is_seed(self) -> bool:
        """Whether depths and width are those of a seed (1,1,1,1 and 32), in either form."""
        return self.depths == SEED_DEPTHS and self.width == SEED_WIDTH

    @property
    def seed(self) -> 'Architecture':
        """The same topology with the depths and width of a seed, in seed form."""
        return replace(self, depths=SEED_DEPTHS, width=SEED_WIDTH, seed_form=True)

    def with_size(self, depths: Sequence[int], width: int) -> 'Architecture':
        """The same topology with other depths and width, in scaled form."""
        return replace(self, depths=tuple(depths), width=width, seed_form=False)

    @property
    def numbers(self) -> tuple[int, ...]:
        """All numbers of the architecture; no other architecture has the same."""
        numbers = (
            *self.kernels,
            *self.splits,
            *self.expansions,
            self.heads,
            *self.depths,
            self.width,
        )
        return numbers if self.stride == BASE_STRIDE else (*numbers, self.stride)

    @property
    def widths(self) -> tuple[int, ...]:
        """Width per stage: C, 2C, 4C, 8C, each at most 1024."""
        return tuple(min(MAX_WIDTH, self.width * 2**i) for i in range(NUM_STAGES))

    @property
    def stage_heads(self) -> tuple[int, ...]:
        """Number of heads per stage: H/8, H/4, H/2, H."""
        return tuple(self.heads // 2 ** (NUM_STAGES - 1 - i) for i in range(NUM_STAGES))

    @property
    def head_dims(self) -> tuple[int, ...]:
        """Width of a head per stage, floor(width / heads); the heads may not fill the stage's width."""
        return tuple(w // h for w, h in zip(self.widths, self.stage_heads, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """A dict that :func:`as_architecture` converts back."""
        values = {name: getattr(self, name) for name in _DICT_KEYS}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _parse_int(name: str, text: str) -> int:
    # One spelling per number, so that parsing and formatting are exact inverses.
    if not re.fullmatch(r'0|[1-9][0-9]{0,8}', text):
        raise ArchitectureError(
            f'{name} = {text!r} is not an integer (digits only, no spaces, sign or leading zero)'
        )
    return int(text)


PRESETS: dict[str, Architecture] = {
    'seed': Architecture.parse('8,2,3|4,1,2|4,1,4|4,1,6|32'),
    'small': Architecture.parse('8,2,3,3|4,1,2,1|4,1,4,4|4,1,6,2|32,88'),
    'base': Architecture.parse('8,2,3,3|4,1,2,1|4,1,4,5|4,1,6,2|32,116'),
    'large': Architecture.parse('8,2,3,5|4,1,2,2|4,1,4,5|4,1,6,2|32,180'),
}


def as_architecture(spec: 'str | Mapping[str, Any] | Architecture') -> Architecture:
    """An architecture from the name of a preset, an architecture string or a dict of its fields."""
    if isinstance(spec, Architecture):
        return spec
    if isinstance(spec, str):
        if spec in PRESETS:
            return PRESETS[spec]
        if '|' not in spec:
            raise ArchitectureError(
                f'{spec!r} is neither a preset ({", ".join(PRESETS)}) nor an architecture string '
                f'({SEED_GRAMMAR} or {SCALED_GRAMMAR})'
            )
        return Architecture.parse(spec)
    if isinstance(spec, Mapping):
        wrong = [f'an unknown key {key!r}' for key in spec if key not in _DICT_KEYS]
        wrong += [f'no {key!r}' for key in _DICT_KEYS[:4] if key not in spec]
        if wrong:
            raise ArchitectureError(
                f'the architecture dict has {wrong[0]}: its keys are {", ".join(_DICT_KEYS)}'
            )
        return Architecture(**spec)
    raise ArchitectureError(
        f'{spec!r} is not an architecture: give a preset ({", ".join(PRESETS)}), a string or a dict'
    )


@dataclass(frozen=True)
class SearchSpace:
    """The seeds of a search (paper, table 2): the allowed values of every choice, by its name.

    Args:
        choices: by name, K1 to K4, S1 to S3, E1 to E4 and H, in the order in which they are drawn.
        stride: of the patch embedding of every seed.
    """

    choices: Mapping[str, tuple[int, ...]]
    stride: int = BASE_STRIDE

    @property
    def size(self) -> int:
        """Number of seeds."""
        return math.prod(len(values) for values in self.choices.values())

    def decode(self, indices: Sequence[int]) -> Architecture:
        """The seed with the given index for each choice; an ArchitectureError for any other index."""
        if len(indices) != len(self.choices):
            raise ArchitectureError(f'{len(indices)} indices for {len(self.choices)} choices')
        value = {}
        for (name, allowed), index in zip(self.choices.items(), indices, strict=True):
            if not 0 <= index < len(allowed):
                raise ArchitectureError(
                    f'index {index} of {name} is out of range 0..{len(allowed) - 1}'
                )
            value[name] = allowed[index]
        stages = range(1, NUM_STAGES + 1)
        # S4, which can only be 1, is not among the choices.
        kernels, splits, expansions = (
            tuple(value.get(f'{letter}{i}', 1) for i in stages) for letter in 'KSE'
        )
        return Architecture(
            kernels, splits, expansions, value['H'], stride=self.stride, seed_form=True
        )

    def encode(self, arch: Architecture) -> list[int]:
        """The index for each choice: the inverse of :meth:`decode`."""
        columns = {'K': arch.kernels, 'S': arch.splits, 'E': arch.expansions}
        return [
            allowed.index(arch.heads if name == 'H' else columns[name[0]][int(name[1]) - 1])
            for name, allowed in self.choices.items()
        ]

    def __contains__(self, arch: Architecture) -> bool:
        """Whether the topology of ``arch`` is one of the space."""
        try:
            return self.decode(self.encode(arch)) == arch.seed
        except ValueError:
            return False

    def sample(self, rng: 'np.random.Generator') -> Architecture:
        """A uniformly random seed."""
        return self.decode([int(rng.integers(len(values))) for values in self.choices.values()])


SEARCH_SPACE = SearchSpace(
    {
        f'{letter}{i + 1}': choices[i]
        for i in range(NUM_STAGES)
        for letter, choices in zip(
            'KSE', (KERNEL_CHOICES, SPLIT_CHOICES, EXPANSION_CHOICES), strict=True
        )
        if len(choices[i]) > 1
    }
    | {'H': HEAD_CHOICES}
)
