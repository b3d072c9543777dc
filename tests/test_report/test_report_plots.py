"""Pictures of reports, and the places that the architecture's drawing follows a token through."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from asvit_mm.arch import PRESETS, SEARCH_SPACE, Architecture
from asvit_mm.cost import count_params, token_grids
from asvit_mm.measures import Score
from asvit_mm.nas import (
    AutoScaling,
    Budget,
    Measurement,
    Memo,
    RandomSearch,
    Reinforce,
    iterate_search,
)
from asvit_mm.report.plots import plot_search
from asvit_mm.report.report_plots import (
    ORANGE,
    RED,
    follow,
    plot_architecture,
    plot_candidates,
    plot_family,
    plot_measured,
    plot_policy,
)

from ..test_nas.toy import cost_measure, distance_measure, measuring, records_of


def is_picture(path):
    with Image.open(path) as image:
        return image.format == 'PNG' and min(image.size) > 400


def has_color(path, color):
    """Whether a hundred pixels and more have the colour."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB'))
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return (pixels == wanted).all(-1).sum() > 100


def test_policy(tmp_path):
    method = Reinforce()
    policies = [method.probabilities]
    for _ in iterate_search(method, Memo(distance_measure), 5):
        policies.append(method.probabilities)
    first = plot_policy(policies, tmp_path / 'a.png').read_bytes()
    assert plot_policy(policies, tmp_path / 'b.png').read_bytes() == first
    assert plot_policy(policies[:-1], tmp_path / 'b.png').read_bytes() != first
    assert is_picture(tmp_path / 'a.png')


@pytest.mark.parametrize('value', [3.0, None])
def test_measured(tmp_path, value):
    records = records_of(RandomSearch(), distance_measure, 9)
    result = {**records[0], 'ntk_condition_number': value}
    path = plot_measured(records, result, tmp_path / 'a.png')
    assert is_picture(path)
    assert has_color(path, RED) == (value is not None)
    assert not has_color(path, ORANGE)
    published = {**records[1], 'arch': str(PRESETS['seed'])}
    assert has_color(plot_measured([*records, published], result, path), ORANGE)


def test_networks_without_kappa(tmp_path):
    bad = measuring(lambda _: Measurement(Score(1.0), Score.bad('x')))
    records = records_of(RandomSearch(), bad, 2)
    assert is_picture(plot_measured(records, records[0], tmp_path / 'a.png'))
    assert is_picture(plot_search(records, tmp_path / 'b.png'))


@pytest.mark.parametrize('steps', [1, 3])
def test_scaling(tmp_path, steps):
    scaling = AutoScaling(PRESETS['seed'], Memo(cost_measure), Budget(10, 32, 10**8))
    candidates = []
    series = [
        scaling.step(lambda _, candidate: candidates.append(candidate.to_record())).to_record()
        for _ in range(steps)
    ]
    assert is_picture(plot_candidates(candidates, series, tmp_path / 'a.png'))
    assert len(candidates) > 3 * steps
    plain = plot_family(series, tmp_path / 'b.png', num_classes=10, img_size=32)
    targets = [{'arch': str(arch), 'params': count_params(arch, 10)} for arch in PRESETS.values()]
    marked = plot_family(series, tmp_path / 'c.png', num_classes=10, img_size=32, targets=targets)
    assert is_picture(plain)
    assert plain.read_bytes() != marked.read_bytes()


def seeds():
    sizes = [len(values) for values in SEARCH_SPACE.choices.values()]
    return st.tuples(*(st.integers(0, size - 1) for size in sizes)).map(SEARCH_SPACE.decode)


@given(seeds(), st.integers(4, 300))
def test_a_token_is_followed(arch, img_size):
    tokens, areas = follow(arch, img_size)
    grids = [rows for rows, _ in token_grids(img_size)]
    assert all(
        0 <= place < grid for token, grid in zip(tokens, grids, strict=True) for place in token
    )
    for before, area, kernel in zip(tokens, areas[1:], arch.kernels[1:], strict=False):
        for place, start in zip(before, area, strict=True):
            assert start <= place < start + kernel
    # The patch of the image holds the four pixels that are the token's alone.
    for place, start in zip(tokens[0], areas[0], strict=True):
        assert start <= 4 * place
        assert start + arch.kernels[0] >= 4 * place + 4


@given(seeds(), st.tuples(*[st.integers(1, 30)] * 4), st.integers(8, 300), st.integers(4, 300))
@settings(max_examples=4)
def test_every_architecture_can_be_drawn(tmp_path_factory, seed, depths, width, img_size):
    folder = tmp_path_factory.mktemp('drawn')
    arch = Architecture.with_size(seed, depths, width)
    assert is_picture(plot_architecture(arch, img_size, folder / 'a.png'))
    wider = plot_architecture(arch.with_size(depths, width + 1), img_size, folder / 'b.png')
    assert (folder / 'a.png').read_bytes() != wider.read_bytes()
