"""File formats of exported networks: ONNX, its 8-bit form, OpenVINO, and programs of torch.export."""

import json
import logging
import operator
import re
import tempfile
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
from .network import LOGITS, ExportNetwork

Exported = Callable[[Tensor], Sequence[Tensor]]

INPUT = 'images'
DESCRIPTION = 'asvit_mm.json'  # the extra file of a .pt2
OPSET = 18


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        suffix: of file names.
        companions: suffixes of files that belong to it.
        runtime: what runs the file here.
        packages: that it needs, besides torch.
        write: writes a network with a description to a path; raises InputError where it cannot be traced.
        read: the file at a path, as a function of images on the CPU.
    """

    suffix: str
    runtime: str
    write: Callable[[ExportNetwork, Mapping[str, Any], Path], None]
    read: Callable[[Path], Exported]
    packages: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()


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


def require_packages(name: str) -> None:
    """Check that the packages that a format needs are installed.

    Raises:
        InputError: names those that are missing.
    """
    packages = FORMATS[name].packages
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise InputError(
            f'export to {name} needs {", ".join(missing)}, not installed: pip install {" ".join(packages)}'
        )


def deploy(classifier: nn.Module, images: Tensor, name: str) -> Callable[[], Any]:
    """A call of a classifier of mmpretrain with ``images``, (N, C, H, W) on the CPU, in a format's runtime.

    The written file is temporary; the runtime has as many threads as torch.

    Raises:
        InputError: packages are not installed, or the classifier cannot be traced.
    """
    require_packages(name)
    height, width = images.shape[2:]
    network = ExportNetwork(classifier, LOGITS, (height, width))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f'network{FORMATS[name].suffix}'
        with torch.no_grad():
            FORMATS[name].write(network, {}, path)
        exported = FORMATS[name].read(path)
    return lambda: exported(images)


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


def _write_int8(network: ExportNetwork, description: Mapping[str, Any], path: Path) -> None:
    """ONNX whose linear layers have 8-bit weights, and inputs that are quantized at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name(f'float32-{path.name}')
    _write_onnx(network, description, whole)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # its advice is about models that have not been optimized
    try:
        # Convolutions in 8 bits are slower in ONNX Runtime on a CPU; there is one, of the patches.
        quantize_dynamic(whole, path, ['MatMul'], per_channel=True, weight_type=QuantType.QInt8)
    finally:
        root.setLevel(level)
        whole.unlink()


def _write_openvino(network: ExportNetwork, description: Mapping[str, Any], path: Path) -> None:
    import openvino

    program = trace(network)
    with _quiet():
        model = openvino.convert_model(program)
    model.reshape({model.inputs[0]: [-1, network.channels, *network.size]})
    model.inputs[0].get_tensor().set_names({INPUT})
    for name, output in zip(network.outputs, model.outputs, strict=True):
        output.get_tensor().set_names({name})
    for name, value in description.items():
        model.set_rt_info(str(value), ['asvit_mm', name])
    openvino.save_model(model, path, compress_to_fp16=False)


def _read_openvino(path: Path) -> Exported:
    import openvino

    # Some CPUs would compute in bfloat16 otherwise.
    settings = {
        'INFERENCE_PRECISION_HINT': 'f32',
        'INFERENCE_NUM_THREADS': torch.get_num_threads(),
    }
    # Loaded whole, or the file could not be removed while the model lives.
    core = openvino.Core()
    core.set_property({'ENABLE_MMAP': False})
    compiled = core.compile_model(core.read_model(path), 'CPU', settings)

    def run(images: Tensor) -> list[Tensor]:
        found = compiled(images.numpy())
        return [torch.from_numpy(found[output]) for output in compiled.outputs]

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


ONNX = ('onnx', 'onnxruntime', 'onnxscript')
FORMATS = {
    'onnx': Format('.onnx', 'onnxruntime', _write_onnx, _read_onnx, ONNX),
    'onnx-int8': Format('.onnx', 'onnxruntime', _write_int8, _read_onnx, ONNX),
    'openvino': Format(
        '.xml', 'openvino', _write_openvino, _read_openvino, ('openvino',), companions=('.bin',)
    ),
    'torch': Format('.pt2', 'torch.export', _write_program, _read_program),
}
