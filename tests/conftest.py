"""Settings of the whole suite."""

import functools

import pytest
import torch
from hypothesis import HealthCheck, settings
from mmengine.config import utils
from mmengine.registry import DefaultScope

from .test_tools.runs import Here
from .wheels import built_once

# How long an example takes says something about the machine only: no test is timed.
settings.register_profile('untimed', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('untimed')

# The tests' networks are tiny: a second thread costs more than it gives.
torch.set_num_threads(1)

# MMEngine reads all of a package's metafiles (mmpretrain has more than eighty) for each of its configs
# that one inherits. No test changes those of an installed package, ours included.
utils.load = functools.cache(utils.load)


def pytest_collection_modifyitems(items):
    """Skip what needs a CUDA device where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker('cuda'):
                item.add_marker(pytest.mark.skip(reason='no CUDA device'))


@pytest.fixture(scope='session')
def wheels(tmp_path_factory):
    """See :func:`tests.wheels.built_once`."""
    return built_once(tmp_path_factory)


@pytest.fixture
def here(monkeypatch, capsys, tmp_path):
    """Runs tools in this process and in the test's folder."""
    return Here(monkeypatch, capsys, tmp_path)


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    """The scenes of :mod:`tests.small_detector`, which needs mmdet."""
    from asvit_mm.data.scenes import write_scenes

    from .small_detector import SIZE, TRAIN, VAL

    return write_scenes(tmp_path_factory.mktemp('scenes') / 'own', train=TRAIN, val=VAL, size=SIZE)


@pytest.fixture(autouse=True)
def _default_scope():
    """What a test's Runner sets as the default scope of its process goes with the test."""
    kept = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(kept)
