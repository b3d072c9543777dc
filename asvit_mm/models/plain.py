"""When the models' own ways to a result may take the place of torch's operations."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

Module = TypeVar('Module', bound=type[nn.Module])

# What is called by its own way to a result only as long as its forward is this one.
FORWARDS: dict[type, Any] = {
    kind: kind.forward for kind in (nn.LayerNorm, nn.Identity, nn.GELU, nn.Dropout)
}


def known(kind: Module) -> Module:
    """Class decorator of a layer that may be computed without a call of it: its forward is kept."""
    FORWARDS[kind] = kind.forward
    return kind


def is_plain(*tensors: Tensor) -> bool:
    """Whether these are ordinary float32 tensors on a CPU, and nobody looks.

    What is traced, compiled, transformed (torch.func, batched gradients, forward mode, autocast), counted
    or overridden (modes, such as torch's FLOP counter, and tensor subclasses) is to see the plain
    operations, which all of these know.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and all(type(t) in (Tensor, nn.Parameter) for t in tensors)
        and all(t.dtype == torch.float32 and t.device.type == 'cpu' for t in tensors)
        and all(torch._C._has_storage(t) and not t.is_neg() for t in tensors)
        and not any(t._is_zerotensor() for t in tensors)
        and not torch.is_autocast_enabled('cpu')
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
        and forward_ad._current_level < 0
    )


def is_watched(module: nn.Module) -> bool:
    """Whether hooks wait for a module's calls or gradients, or another ``forward`` than its own is called."""
    kind = type(module)
    return bool(
        'forward' in module.__dict__
        or kind.forward is not FORWARDS.get(kind, kind.forward)
        or module._compiled_call_impl is not None
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or torch.nn.modules.module._has_any_global_hook()
    )
