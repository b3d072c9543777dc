import subprocess
import sys

import pytest
import torch

from asvit_mm.arch import as_architecture
from asvit_mm.errors import InputError
from asvit_mm.measures import curve_basis, length_distortion, ntk_condition_number
from asvit_mm.measures.length_distortion import output_speeds
from asvit_mm.measures.memory import images_at_a_time, until_it_fits, window_tokens
from asvit_mm.measures.ntk import ntk_gram
from asvit_mm.models import AsViT

TINY = '5,2,2,1|3,2,3,1|2,1,2,1|3,1,2,1|16,16'
MIB = 1 << 20

# Growth of the process's peak resident set over one measure, after a first one with a single image.
PEAK = """
import re, sys, torch
from pathlib import Path
from asvit_mm.arch import as_architecture
from asvit_mm.measures import curve_basis, length_distortion, ntk_condition_number
from asvit_mm.measures.probe import fresh_network, without_norms

def resident(name):
    return int(re.search(name + r':\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1]) << 10

torch.set_num_threads(1)
name, arch, limit = sys.argv[1], as_architecture(sys.argv[2]), int(sys.argv[3])
network = fresh_network(arch, (0,))
plain, basis = without_norms(network), curve_basis(224, torch.Generator().manual_seed(0))
images = torch.randn(16, 3, 224, 224)
calls = {
    'length_distortion': lambda n, m: length_distortion(plain, basis, 224, n, memory_limit=m),
    'ntk_condition_number': lambda n, m: ntk_condition_number(network, images[:n], memory_limit=m),
}
calls[name](2, None)
before = resident('VmRSS')
Path('/proc/self/clear_refs').write_text('5')
calls[name](16, limit or None)
print(resident('VmHWM') - before)
"""


def peak(name, arch, limit):
    done = subprocess.run(
        [sys.executable, '-c', PEAK, name, arch, str(limit)],
        capture_output=True,
        text=True,
        env={'MALLOC_MMAP_THRESHOLD_': '65536', 'PATH': ''},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize('arch', ['8,2,3|4,1,2|4,1,4|4,1,6|32', '4,2,6|2,1,2|4,2,3|4,1,2|16'])
@pytest.mark.parametrize(
    ('name', 'limit'), [('length_distortion', 80 * MIB), ('ntk_condition_number', 256 * MIB)]
)
def test_a_limit_is_kept(name, limit, arch):
    assert peak(name, arch, 0) > limit
    assert peak(name, arch, limit) <= limit


def test_parts_give_the_value_of_the_whole():
    torch.manual_seed(0)
    model = AsViT(TINY, img_size=24, norm_cfg=None).double()
    basis = curve_basis(24, torch.Generator().manual_seed(3))
    whole = output_speeds(model, basis, 24, 7)
    for at_a_time in (1, 3, 7, 9):
        got = output_speeds(model, basis, 24, 7, at_a_time)
        torch.testing.assert_close(got, whole, rtol=1e-12, atol=0)
    model = AsViT(TINY, img_size=24).double()
    images = torch.randn(5, 3, 24, 24, dtype=torch.float64)
    whole = ntk_gram(model, images)
    for at_a_time in (1, 2, 5, 6):
        torch.testing.assert_close(ntk_gram(model, images, at_a_time), whole, rtol=1e-11, atol=0)


def test_a_limit_too_small_is_refused_with_one_that_is_not():
    model = AsViT(TINY, img_size=24)
    basis = curve_basis(24, torch.Generator().manual_seed(3))
    with pytest.raises(InputError, match='give at least'):
        length_distortion(model, basis, 24, memory_limit=1000)
    with pytest.raises(InputError, match='give at least'):
        ntk_condition_number(model, torch.randn(4, 3, 24, 24), memory_limit=1000)


def test_images_at_a_time():
    assert images_at_a_time(16, 10, None) == 16
    assert images_at_a_time(16, 10, 1000) == 16
    assert images_at_a_time(16, 10, 79, fixed=30) == 4
    assert images_at_a_time(16, 10, 40, fixed=30) == 1
    with pytest.raises(InputError, match='too little memory'):
        images_at_a_time(16, 10, 39, fixed=30)


def test_fewer_at_a_time_until_it_fits():
    asked = []

    def compute(at_a_time):
        asked.append(at_a_time)
        if at_a_time > largest:
            raise torch.OutOfMemoryError
        return 'done'

    largest = 2
    assert until_it_fits(compute, 10) == 'done'
    assert asked == [10, 5, 3, 2]
    largest = 0
    with pytest.raises(InputError, match='no memory for one image'):
        until_it_fits(compute, 3)


def test_windows_decide_the_scores():
    assert window_tokens(as_architecture('8,2,3|4,1,2|4,1,4|4,1,6|32'), 224) == 28 * 28
    assert window_tokens(as_architecture('8,4,3|4,4,2|4,2,4|4,1,6|32'), (224, 448)) == 14 * 28
