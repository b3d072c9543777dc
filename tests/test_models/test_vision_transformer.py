import math

import pytest
import torch
from mmpretrain.models import VisionTransformer
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from asvit_mm.errors import InputError
from asvit_mm.models import AsViT
from asvit_mm.models.vision_transformer import TokenizedVisionTransformer
from asvit_mm.token_schedule import TokenizedBackbone

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


def vit(img_size=64, patch_size=16, **kwargs):
    torch.manual_seed(0)
    model = TokenizedVisionTransformer(ARCH, img_size, patch_size, **kwargs)
    # mmpretrain's train returns nothing.
    model.eval()
    return model


def asvit(img_size=64, **kwargs):
    torch.manual_seed(0)
    return AsViT('4,4,2|2,1,2|2,1,2|2,1,2|16', img_size, **kwargs).eval()


@pytest.mark.parametrize('build', [vit, asvit])
@pytest.mark.parametrize('projection', ['dilate', 'resize'])
@pytest.mark.parametrize(
    ('img_size', 'factor'), [(64, 1), (64, 2), (64, 4), (72, 2), ((64, 48), 2)]
)
def test_counts_are_those_of_a_forward_pass(build, projection, img_size, factor):
    model = build(img_size, token_projection=projection)
    assert isinstance(model, TokenizedBackbone)
    stride = factor * model.base_token_stride
    model.set_token_stride(stride)
    assert model.token_stride == stride
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    seen = []
    first = model.layers[0] if build is vit else model.stages[0]
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1:-1]))
    # What a second image costs: to enlarge the kernel costs the same whatever the number of images.
    flops = []
    for batch in (1, 2):
        images = torch.randn(batch, 3, height, width)
        with (
            torch.no_grad(),
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
        ):
            model(images)
        flops.append(counter.get_total_flops())
    assert seen[0].numel() == math.prod(model.token_grids(stride)[0]) + (build is vit)
    assert 2 * model.count_macs(stride) == pytest.approx(flops[1] - flops[0], rel=0.005)


def test_at_the_base_stride_it_is_mmpretrains():
    torch.manual_seed(0)
    plain, own = VisionTransformer(ARCH, 64, 16), vit()
    plain.eval()
    own.load_state_dict(plain.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    before = own(images)
    assert torch.equal(before[0], plain(images)[0])
    own.set_token_stride(32)
    assert own.token_dilation == 2
    assert not torch.equal(own(images)[0], before[0])
    own.set_token_stride(16)
    assert torch.equal(own(images)[0], before[0])


def test_a_coarse_projection_by_hand():
    """The same kernel, its taps further apart, over zeros below and to the right."""
    model, images = vit(40, 8), torch.randn(1, 3, 40, 40)
    model.set_token_stride(16)
    tokens, grid = model.patch_embed(images)
    assert grid == (3, 3)
    weight, bias = model.patch_embed.projection.weight, model.patch_embed.projection.bias
    padded = torch.zeros(1, 3, 64, 64)
    padded[..., :40, :40] = images
    for row in range(3):
        for column in range(3):
            patch = padded[0, :, 16 * row :, 16 * column :][:, :16:2, :16:2]
            expected = (weight * patch).sum((1, 2, 3)) + bias
            torch.testing.assert_close(tokens[0, 3 * row + column], expected)


@pytest.mark.parametrize('build', [vit, asvit])
def test_a_resized_projection_sees_an_enlarged_image_as_the_kernel_does_the_image(build):
    """PI-resize of one patch: kernels of neighbours would see each other's pixels at their edges."""
    model = build(token_projection='resize')
    projection = model.patch_embed.projection if build is vit else model.patch_embed.proj
    side, base = projection.kernel_size[0], model.base_token_stride
    patch = torch.randn(2, 3, side, side)
    expected = projection(patch)
    for factor in (2, 3):
        model.set_token_stride(factor * base)
        assert model.token_dilation is None
        enlarged = F.interpolate(patch, scale_factor=factor, mode='bilinear')
        torch.testing.assert_close(projection(enlarged), expected, rtol=1e-4, atol=1e-5)
        model.set_token_stride(factor * base, dilation=1)
        assert (model.token_dilation, projection.enlarged) == (1, 1)
    model.set_token_stride(base)
    assert torch.equal(projection(patch), expected)
    model.set_token_stride(2 * base)
    projection(torch.randn(1, 3, 64, 64)).sum().backward()
    assert projection.weight.grad.abs().sum() > 0
    if build is asvit:
        with pytest.raises(InputError, match='stride 6 is not a multiple of 4'):
            model.set_token_stride(6)
    with pytest.raises(InputError, match='one of dilate, resize'):
        build(token_projection='stretch')


@pytest.mark.parametrize(
    ('model', 'stride', 'dilation', 'words'),
    [
        (vit(), 24, None, 'stride 24 is not a multiple of 16'),
        (vit(), 2, None, 'token stride 2'),
        (vit(), 32, 0, 'dilation 0'),
        (asvit(), 6, None, 'stride 6 is not a multiple of 4'),
        (asvit(), 32, None, 'too coarse for 64 pixels'),
        (asvit((128, 64)), 32, None, 'too coarse for 64 pixels'),
    ],
)
def test_refusals(model, stride, dilation, words):
    with pytest.raises(InputError, match=words):
        model.check_token_stride(stride, dilation)


def test_what_is_allowed():
    for stride in (16, 32, 64):
        vit().check_token_stride(stride)
    for stride in (4, 8, 12, 16):
        asvit().check_token_stride(stride)
    # Windows of a fixed size become one; the base stride is allowed whatever the windows.
    asvit(window_size=7).check_token_stride(32)
    asvit(8).check_token_stride(4)
