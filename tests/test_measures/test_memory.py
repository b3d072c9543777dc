import json
import subprocess
import sys

import pytest
import torch

from asvit_mm.arch import as_architecture
from asvit_mm.errors import InputError
from asvit_mm.measures import extrinsic_curvature
from asvit_mm.measures.curves import output_derivatives
from asvit_mm.measures.memory import in_chunks, second_order_bytes, window_tokens
from asvit_mm.measures.ntk import ntk_gram
from asvit_mm.models import AsViT

from .small import circle, images, network

MIB = 1 << 20
LIMITS = {'length_distortion': 48 * MIB, 'ntk_condition_number': 128 * MIB}

# Growth of the process's peak resident set over a measure, with and without a limit.
PEAKS = """
import json, re, sys, torch
from pathlib import Path
from asvit_mm.arch import as_architecture
from asvit_mm.measures import MEASURES, ImageCircle, ProbeNetwork

def resident(name):
    return int(re.search(name + r':\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1]) << 10

def peak(info, probe, limit):
    probe.memory_limit = limit
    before = resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')
    info.compute(probe)
    return resident('VmHWM') - before

torch.set_num_threads(1)
peaks = []
for arch in ('8,2,3|4,1,2|4,1,4|4,1,6|32', '4,2,6|2,1,2|4,2,3|4,1,2|16'):
    probe = ProbeNetwork(as_architecture(arch), 224, batch=torch.randn(8, 3, 224, 224))
    generator = torch.Generator().manual_seed(0)
    probe.circle = ImageCircle.random(224, generator, num_angles=8)
    for name, limit in json.loads(sys.argv[1]).items():
        # What is allocated once, and the limit first: freed memory of larger passes would hide it.
        small = ProbeNetwork(probe.arch, 64, batch=torch.randn(2, 3, 64, 64))
        peak(MEASURES[name], small, None)
        getattr(probe, MEASURES[name].needs[0])
        peaks.append([name, *(peak(MEASURES[name], probe, m) for m in (limit, None))])
print(json.dumps(peaks))
"""


@pytest.mark.slow
def test_limits_are_kept():
    done = subprocess.run(
        [sys.executable, '-c', PEAKS, json.dumps(LIMITS)],
        capture_output=True,
        text=True,
        env={'MALLOC_MMAP_THRESHOLD_': '65536', 'PATH': ''},
    )
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    assert len(peaks) == 2 * len(LIMITS)
    for name, limited, unlimited in peaks:
        assert limited <= LIMITS[name] < unlimited, (name, limited / MIB, unlimited / MIB)


@pytest.mark.parametrize('chunk_size', [1, 3, 9])
def test_chunks_give_the_value_of_the_whole(chunk_size):
    model, curve = network(norm_cfg=None).double(), circle(num_angles=7)
    torch.testing.assert_close(
        output_derivatives(model, curve, chunk_size),
        output_derivatives(model, curve),
        rtol=1e-11,
        atol=1e-15,
    )
    model, batch = network().double(), images(5).double()
    torch.testing.assert_close(
        ntk_gram(model, batch, chunk_size), ntk_gram(model, batch), rtol=1e-11, atol=0
    )


class Counting(AsViT):
    """Records how many images it is called with, and has no memory for more than ``fits``."""

    fits = 100
    called = ()

    def pooled_tokens(self, x):
        self.called = (*self.called, len(x))
        if len(x) > self.fits:
            raise torch.OutOfMemoryError
        return super().pooled_tokens(x)


@pytest.mark.parametrize(
    ('limit', 'fits', 'called'), [(4, 100, (4, 4, 2)), (None, 3, (10, 5, 3, 3, 3, 1))]
)
def test_curvature_in_chunks(limit, fits, called):
    model, curve = network(size=16, norm_cfg=None, model_class=Counting).double(), circle(16)
    whole = extrinsic_curvature(model, curve)
    assert model.called == (10,)
    model.called, model.fits = (), fits
    if limit is not None:
        limit *= second_order_bytes(model.architecture, 16, 8)
    parts = extrinsic_curvature(model, curve, memory_limit=limit)
    assert model.called == called
    assert parts.value == pytest.approx(whole.value, rel=1e-12)


def test_images_in_chunks_that_fit():
    def chunk_size(count=16, image_bytes=10, fixed_bytes=0, limit=None, fits=100):
        def compute(chunk_size):
            if chunk_size > fits:
                raise torch.OutOfMemoryError
            return chunk_size

        return in_chunks(
            compute,
            count,
            image_bytes=image_bytes,
            fixed_bytes=fixed_bytes,
            memory_limit=limit,
        )

    assert chunk_size() == 16
    assert chunk_size(limit=1000) == 16
    assert chunk_size(limit=79, fixed_bytes=30) == 4
    assert chunk_size(limit=40, fixed_bytes=30) == 1
    with pytest.raises(InputError, match='too small for a single image: give at least'):
        chunk_size(limit=39, fixed_bytes=30)
    assert chunk_size(count=10, fits=2) == 2
    with pytest.raises(InputError, match='too little memory for a single image'):
        chunk_size(fits=0)


def test_largest_window():
    assert window_tokens(as_architecture('8,2,3|4,1,2|4,1,4|4,1,6|32'), 224) == 28 * 28
    assert window_tokens(as_architecture('8,4,3|4,4,2|4,2,4|4,1,6|32'), (224, 448)) == 14 * 28
