"""A classifier whose full token grid teaches the coarse ones, for training with elastic tokens."""

from typing import Any

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..registry import MODELS
from ..token_schedule import TokenizedBackbone, at_full_grid


@MODELS.register_module()
class SelfDistilledClassifier(ImageClassifier):
    """mmpretrain's ImageClassifier, whose own logits at the full token grid are targets at coarse ones.

    Where the token stride of the backbone is coarser than its base, as
    :class:`~asvit_mm.engine.hooks.ProgressiveTokenizationHook` makes it, the loss is
    (1 - ``distill_weight``) times the head's plus ``distill_weight`` times the Kullback-Leibler divergence
    from the logits of the same images at the full grid, which the same network computes in evaluation mode
    and without gradients (in-place distillation, arXiv 1903.05134). It costs a forward pass at the full grid.
    At the base stride, and in inference, it is the ImageClassifier.

    Args:
        distill_weight: share of the distillation in the loss, from 0 to 1.

    Raises:
        InputError: another weight, or a backbone whose token grid cannot change.
    """

    def __init__(self, *args: Any, distill_weight: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= distill_weight <= 1:
            raise InputError(f'distill_weight = {distill_weight!r} is not a number from 0 to 1')
        if not isinstance(self.backbone, TokenizedBackbone):
            raise InputError(
                f'SelfDistilledClassifier: the token grid of {type(self.backbone).__name__} cannot change: '
                'give it a backbone such as asvit_mm.AsViT'
            )
        self.distill_weight = distill_weight

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """The losses by name, of images (B, C, H, W) and their labels."""
        weight = self.distill_weight
        if weight == 0 or self.backbone.token_stride == self.backbone.base_token_stride:
            return super().loss(inputs, data_samples)
        target = self._full_grid_logits(inputs).log_softmax(-1)
        feats = self.extract_feat(inputs)
        losses = {
            name: (1 - weight) * value if 'loss' in name else value
            for name, value in self.head.loss(feats, data_samples).items()
        }
        logits = self.head(feats).log_softmax(-1)
        divergence = F.kl_div(logits, target, reduction='batchmean', log_target=True)
        return {**losses, 'loss_distill': weight * divergence}

    @torch.no_grad()
    def _full_grid_logits(self, inputs: Tensor) -> Tensor:
        self.eval()
        try:
            with at_full_grid([self.backbone]):
                return self.head(self.extract_feat(inputs))
        finally:
            self.train()
            # Autocast keeps weights that it has cast, here without gradients: the next pass casts its own.
            torch.clear_autocast_cache()
