"""The formats that networks are written to and read from: ONNX, and programs of torch.export."""

import json
import logging
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.config import one_line
from ..errors import InputError
from .networks import Network

Exported = Callable[[Tensor], Sequence[Tensor]]

PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')
INPUT = 'images'
DESCRIPTION = 'asvit_mm.json'  # the extra file of a .pt2
OPSET = 18


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Args:
        suffix: of its name.
        runtime: what runs it here.
        write: a network with a description, to a path. InputError: torch.export cannot follow the network.
        read: the file at a path, as a function of images on the CPU.
    """

    suffix: str
    runtime: str
    write: Callable[[Network, Mapping[str, Any], Path], None]
    read: Callable[[Path], Exported]


class Multiples(nn.Module):
    """A network whose images are multiples of ``step`` pixels a side, said so that torch.export sees it.

    Every size inside the network then is a multiple of (side // step), which torch's symbolic arithmetic
    keeps short; other images are an error of broadcasting.
    """

    def __init__(self, network: nn.Module, step: int) -> None:
        super().__init__()
        self.network, self.step = network, step

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (N, channels, H, W) to what the network gives."""
        batch, channels, height, width = images.shape
        sides = (height // self.step * self.step, width // self.step * self.step)
        return self.network(images.new_zeros(batch, channels, *sides) + images)


def trace(network: Network) -> torch.export.ExportedProgram:
    """The network as a program of torch.export, its batch free, and height and width where it says so.

    Raises:
        InputError: torch.export cannot follow the network.
    """
    module, (height, width), free = network.module, network.size, {0: torch.export.Dim('batch')}
    if network.step:
        module = Multiples(module, network.step)
        # Sizes that are special in no way: what is true of them by chance would be taken for granted.
        height, width = height + 5 * network.step, width + 3 * network.step
        smallest = network.smallest // network.step
        free |= {
            axis: network.step * torch.export.Dim(name, min=smallest)
            for axis, name in ((2, 'height'), (3, 'width'))
        }
    example = torch.zeros(2, network.channels, height, width)
    try:
        return torch.export.export(module, (example,), dynamic_shapes={INPUT: free}, strict=False)
    except Exception as error:
        raise InputError(
            f'torch.export cannot follow the model of the config: {one_line(error)[:250]}'
        ) from error


def require_packages() -> None:
    """Refuse to go on where the packages that ONNX needs are not installed.

    Raises:
        InputError: names those that are missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f'export to ONNX needs {", ".join(missing)}, not installed: pip install {" ".join(PACKAGES)}'
        )


def _write_program(network: Network, description: Mapping[str, Any], path: Path) -> None:
    extra = {DESCRIPTION: json.dumps({**description, 'outputs': network.outputs}, indent=2)}
    torch.export.save(trace(network), path, extra_files=extra)


def _read_program(path: Path) -> Exported:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            'ignore', 'The given buffer is not writable'
        )  # nor is it written to
        return torch.export.load(path).module()


def _write_onnx(network: Network, description: Mapping[str, Any], path: Path) -> None:
    import onnx
    from onnxscript import opset18

    def floor_divide(self: Any, other: Any) -> Any:
        # torch's own translation rounds towards zero, which is another number below zero.
        return opset18.Div(opset18.Sub(self, opset18.Mod(self, other)), other)

    program = trace(network)
    with _quiet():
        converted = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=list(network.outputs),
            opset_version=OPSET,
            custom_translation_table={operator.floordiv: floor_divide},
            verbose=False,
        )
    assert converted is not None
    _rename_sizes(converted.model)
    converted.model.metadata_props.update(
        {f'asvit_mm.{name}': str(value) for name, value in description.items()}
    )
    converted.save(path)
    onnx.checker.check_model(path, full_check=True)


def _read_onnx(path: Path) -> Exported:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, settings, providers=['CPUExecutionProvider'])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(one) for one in session.run(None, {INPUT: images.numpy()})]

    return run


def _rename_sizes(model: Any) -> None:
    """Name an ONNX model's free sizes as ``batch``, ``h`` and ``w`` instead of ``s34`` and the like."""
    import onnx_ir

    names: dict[str, str] = {}
    for side, name in zip(model.graph.inputs[0].shape, ('batch', '', 'h', 'w'), strict=True):
        names.update(dict.fromkeys(re.findall(r's\d+', str(side)), name))

    def rename(side: Any) -> Any:
        if isinstance(side, int) or side.value is None:
            return side
        return re.sub(r's\d+', lambda found: names.get(found[0], found[0]), str(side.value))

    values = [*model.graph.inputs, *(v for node in model.graph.all_nodes() for v in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = onnx_ir.Shape([rename(side) for side in value.shape])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on translations of other packages, which are none of the user's."""
    schemas = logging.getLogger('torch.onnx._internal.exporter._schemas')
    level = schemas.level
    schemas.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)
            yield
    finally:
        schemas.setLevel(level)


FORMATS = {
    'onnx': Format('.onnx', 'onnxruntime', _write_onnx, _read_onnx),
    'torch': Format('.pt2', 'torch.export', _write_program, _read_program),
}
