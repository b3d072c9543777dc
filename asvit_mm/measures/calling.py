"""Running a model with other parameters than its own, and leaving it as it was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.func import functional_call

from ..models import AsViT


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout) within the block; every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def has_norms(model: AsViT) -> bool:
    """Whether the model was built with norms (``norm_cfg``), not with identities."""
    return not isinstance(model.patch_embed.norm, nn.Identity)


def pooled_tokens(model: AsViT, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """The model's ``pooled_tokens`` (B, C4) of images (B, C, H, W), with other parameters.

    Args:
        parameters: by their names in ``model.named_parameters()``; a missing one is the model's own.
    """
    renamed = {f'model.{name}': value for name, value in parameters.items()}
    return functional_call(_PooledTokens(model), renamed, (images,))


class _PooledTokens(nn.Module):
    # functional_call calls a module's forward; the model's own goes on through the output norm.
    def __init__(self, model: AsViT) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.pooled_tokens(images)
