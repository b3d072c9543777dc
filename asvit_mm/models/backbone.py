"""What the OpenMMLab tools expect of a backbone: checkpoints that fit, layer-wise decay, frozen stages."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmengine.model import BaseModule, PretrainedInit
from torch import nn

from ..arch import NUM_STAGES, Architecture
from ..checkpoints.reading import load_pretrained
from ..ops.resample import resample_positions


class Backbone(BaseModule):
    """Base of :class:`~asvit_mm.models.AsViT`, which builds the parts that are named here."""

    # TorchScript would read them as the types of a scripted network's attributes.
    if TYPE_CHECKING:
        init_cfg: Any
        architecture: Architecture
        frozen_stages: int
        out_indices: tuple[int, ...]
        patch_embed: Any
        pos_embed: nn.Parameter | None
        drop_after_pos: Any
        stages: Any

    def init_weights(self) -> None:
        """As MMEngine does, except that the checkpoint of a ``Pretrained`` init_cfg must fit as a whole.

        Raises:
            InputError: the checkpoint lacks weights of the backbone or has others, output norms apart: a
                classifier has one of these, a detector one per map.
        """
        given = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else self.init_cfg or []
        pretrained = [c for c in given if c.get('type') in ('Pretrained', PretrainedInit)]
        # MMEngine's own loader would take whatever fits and ignore the rest.
        self.init_cfg = [config for config in given if config not in pretrained]
        super().init_weights()
        self.init_cfg = given
        for config in pretrained:
            load_pretrained(
                self, config, optional=['norm', *self._unbuilt()], resampled='pos_embed'
            )

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay, and the number of layers.

        The embedding is layer 0, every block is one layer. A merging belongs to the block before it, output
        norms and everything outside the backbone to the last layer. mmpretrain's Swin counts alike.

        Args:
            param_name: name of the parameter in the model.
            prefix: of the backbone's parameters in the model, e.g. ``'backbone.'``.
        """
        depths = self.architecture.depths
        num_layers = sum(depths) + 2
        name = param_name.removeprefix(prefix)
        if param_name.startswith(prefix):
            if name.startswith(('patch_embed.', 'pos_embed')):
                return 0, num_layers
            if name.startswith('stages.'):
                stage, part, *rest = name.removeprefix('stages.').split('.')
                before = sum(depths[: int(stage)])
                return before + (int(rest[0]) + 1 if part == 'blocks' else 0), num_layers
        return num_layers - 1, num_layers

    def train(self, mode: bool = True) -> 'Backbone':
        """Set training mode; frozen stages stay in evaluation mode (no dropout)."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.patch_embed, self.drop_after_pos, *self.stages[: self.frozen_stages]]
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)
        if self.pos_embed is not None:
            self.pos_embed.requires_grad_(False)

    def _unbuilt(self, prefix: str = '') -> tuple[str, ...]:
        """What names of weights behind the last output begin with."""
        indices = range(len(self.stages), NUM_STAGES)
        return tuple(f'{prefix}{name}{i}.' for i in indices for name in ('stages.', 'norm'))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # Of another image size, the position grid is another; of the whole network, there are more stages.
        key = f'{prefix}pos_embed'
        if self.pos_embed is not None and key in state_dict:
            pos, own = state_dict[key], self.pos_embed
            if pos.ndim == 4 and pos.shape[1:3] != own.shape[1:3] and pos.shape[3] == own.shape[3]:
                pos = resample_positions(pos.float(), own.shape[1], own.shape[2])
                state_dict[key] = pos.to(own.dtype)
        for key in [key for key in state_dict if key.startswith(self._unbuilt(prefix))]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
