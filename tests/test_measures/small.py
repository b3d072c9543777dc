"""Small networks and inputs for the tests of the measures."""

import torch

from asvit_mm.measures import ImageCircle
from asvit_mm.models import AsViT

TINY = '5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'
LN = dict(type='LN')


def network(arch=TINY, size=24, norm_cfg=LN, model_class=AsViT):
    torch.manual_seed(0)
    return model_class(arch, img_size=size, use_abs_pos_embed=False, norm_cfg=norm_cfg)


def images(count, size=24):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def circle(size=24, num_angles=10):
    return ImageCircle.random(size, torch.Generator().manual_seed(3), num_angles=num_angles)


def output_on(circle, model, angles):
    """z (angles, C4) at angles of the circle, differentiable."""
    points = (circle.basis @ torch.stack([angles.cos(), angles.sin()])).T
    return model.pooled_tokens(points.reshape(len(angles), 3, circle.img_size, circle.img_size))


def derivative_by_coordinate(values, angles):
    """d values / d angles, like the published code: one backward pass per coordinate."""
    rows = [torch.autograd.grad(x.sum(), angles, create_graph=True)[0] for x in values.T]
    return torch.stack(rows, 1)
