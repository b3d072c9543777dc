"""File formats of exported networks: ONNX, and programs of torch.export."""

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

from ..errors import InputError, one_line
from .network import ExportNetwork

Exported = Callable[[Tensor], Sequence[Tensor]]

PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')
INPUT = 'images'
DESCRIPTION = 'asvit_mm.json'  # the extra file of a .pt2
OPSET = 18


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        suffix: of file names.
        runtime: what runs the file here.
        write: writes a network with a description to a path; raises InputError where it cannot be traced.
        read: the file at a path, as a function of images on the CPU.
    """

    suffix: str
    runtime: str
    write: Callable[[ExportNetwork, Mapping[str, Any], Path], None]
    read: Callable[[Path], Exported]


class _Multiples(nn.Module):
    """A network for images whose sides are multiples of ``step``, in a form that torch.export can see.

    Every size inside the network then is a multiple of (side // step), which keeps torch's symbolic
    arithmetic short; images of other sizes fail to broadcast.
    """

    def __init__(self, network: ExportNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        batch, channels, *sides = images.shape
        step = self.network.step
        sides = [side // step * step for side in sides]
        outputs: tuple[Tensor, ...] = self.network(
            images.new_zeros(batch, channels, *sides) + images
        )
        return outputs


def trace(network: ExportNetwork) -> torch.export.ExportedProgram:
    """The network as a program of torch.export: the batch is free, and height and width if it has a step.

    Raises:
        InputError: torch.export cannot trace the network.
    """
    module: nn.Module = network
    height, width = network.size
    free: dict[int, Any] = {0: torch.export.Dim('batch')}
    if network.step:
        module = _Multiples(network)
        # Generic sizes: torch.export would take for granted what happens to hold for the example.
        height, width = height + 5 * network.step, width + 3 * network.step
        smallest = network.smallest // network.step
        for axis, name in ((2, 'height'), (3, 'width')):
            free[axis] = network.step * torch.export.Dim(name, min=smallest)
    example = torch.zeros(2, network.channels, height, width)
    try:
        return torch.export.export(module, (example,), dynamic_shapes={INPUT: free}, strict=False)
    except Exception as error:
        raise InputError(
            f'torch.export cannot follow the model of the config: {one_line(error)[:250]}'
        ) from error


def require_packages() -> None:
    """Check that the packages that ONNX needs are installed.

    Raises:
        InputError: names those that are missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f'export to ONNX needs {", ".join(missing)}, not installed: pip install {" ".join(PACKAGES)}'
        )


def _write_program(network: ExportNetwork, description: Mapping[str, Any], path: Path) -> None:
    extra = {DESCRIPTION: json.dumps({**description, 'outputs': network.outputs}, indent=2)}
    torch.export.save(trace(network), path, extra_files=extra)


def _read_program(path: Path) -> Exported:
    with warnings.catch_warnings():
        # Nothing writes to the buffer.
        warnings.filterwarnings('ignore', 'The given buffer is not writable')
        return torch.export.load(path).module()


def _write_onnx(network: ExportNetwork, description: Mapping[str, Any], path: Path) -> None:
    import onnx
    from onnxscript import opset18

    def floor_divide(self: Any, other: Any) -> Any:
        # torch's own translation rounds towards zero, which differs for negative numbers.
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
    """Name an ONNX model's free sizes ``batch``, ``h`` and ``w`` instead of ``s34`` and the like."""
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
    """Suppress the exporter's remarks on other packages' translations, which no user can act on."""
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
