"""tools/model_converters/to_detectron2.py: what it writes, and what it refuses."""

import pytest
import torch

from asvit_mm.checkpoints.hosting import SHIPPED
from asvit_mm.models import AsViT

ARCH = '6,2,6,2|4,1,3,1|4,1,5,1|3,1,6,1|32,40'  # of both shipped files
TOOL = 'model_converters/to_detectron2.py'


@pytest.mark.parametrize('kind', ['asvit-3.0m', 'mask-rcnn'])
def test_weights_of_classifiers_and_detectors(here, kind):
    (source,) = SHIPPED.glob(f'{kind}*.pth')
    given = torch.load(source, weights_only=True)['state_dict']
    here.run(TOOL, source, 'd2.pth', '--arch', ARCH, '--prefix', 'backbone.', '--img-size', '64')
    content = torch.load(here.folder / 'd2.pth', weights_only=True)
    assert list(content) == ['model']
    assert set(content['model']) == {name for name in given if name.startswith('backbone.')}
    for name, value in content['model'].items():
        if name == 'backbone.pos_embed':
            assert value.shape[1:3] == (16, 16)
            assert given[name].shape[1:3] == (8, 8)
        else:
            assert torch.equal(value, given[name])


def test_a_bare_backbone_without_positions(here):
    backbone = AsViT('seed', use_abs_pos_embed=False)
    torch.save(backbone.state_dict(), here.folder / 'backbone.pth')
    here.run(TOOL, 'backbone.pth', 'd2.pth', '--arch', 'seed', '--img-size', '64', '32')
    written = torch.load(here.folder / 'd2.pth', weights_only=True)['model']
    assert set(written) == {f'backbone.bottom_up.{name}' for name in backbone.state_dict()}


def test_splits_and_stride_are_those_of_the_config(here):
    backbone = f"backbone = dict(type='asvit_mm.AsViT', arch='{ARCH}', img_size=32)"
    content = {'state_dict': AsViT(ARCH, 32).state_dict(), 'meta': {'cfg': backbone}}
    torch.save(content, here.folder / 'run.pth')
    for other in (f'{ARCH}/2', ARCH.replace('6,2,6,2', '6,4,6,2')):
        assert f'of {ARCH}' in here.refusal(TOOL, 'run.pth', 'd2.pth', '--arch', other)
    here.run(TOOL, 'run.pth', 'd2.pth', '--arch', ARCH)


def test_another_architecture_and_a_folder_that_is_none(here):
    (source,) = SHIPPED.glob('asvit-3.0m*.pth')
    assert 'does not fit' in here.refusal(TOOL, source, 'd2.pth', '--arch', 'small')
    assert not (here.folder / 'd2.pth').exists()
    (here.folder / 'file').touch()
    assert 'name another' in here.refusal(TOOL, source, 'file/d2.pth', '--arch', ARCH)
