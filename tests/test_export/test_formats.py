"""Each format gives back what was written, for any batch; what cannot be written is said in one line."""

import pytest
import torch
from torch import nn

from asvit_mm.errors import InputError
from asvit_mm.export import FORMATS
from asvit_mm.export.formats import trace

from .small import network


@pytest.mark.parametrize('name', FORMATS)
@torch.no_grad()
def test_a_file_gives_what_the_network_does(name, tmp_path):
    path = tmp_path / f'maps{FORMATS[name].suffix}'
    small = network()
    FORMATS[name].write(small, {'config': 'maps.py'}, path)
    exported = FORMATS[name].read(path)
    for batch in (1, 5):
        images = torch.rand(batch, 2, 6, 4)
        torch.testing.assert_close(tuple(exported(images)), small.module(images))
    with pytest.raises(Exception, match=r'images|Guard'):
        exported(torch.rand(1, 2, 8, 4))


class Branches(nn.Module):
    """What it does hangs on its input's values."""

    def forward(self, images):
        return images if images.sum() > 0 else -images


def test_what_cannot_be_traced():
    with pytest.raises(InputError, match='cannot follow the model of the config') as error:
        trace(network(Branches()))
    assert '\n' not in str(error.value)
