"""What the zoo holds and where it lies."""

from pathlib import Path

import pytest
import yaml

from asvit_mm.errors import InputError
from asvit_mm.zoo import fetch, find, list_models
from asvit_mm.zoo.index import index_folder, models

ROOT = Path(__file__).parents[2]
DETECTOR = 'mask-rcnn_asvit-3.0m-10mf_fpn_12e_scenes'


def test_every_config_with_our_backbone_is_in_the_zoo():
    leaves = [ROOT / 'configs/asvit_coco.py', *(ROOT / 'configs').glob('[!_]*/*.py')]
    assert set(list_models()) == {path.stem for path in leaves if 'swin' not in path.stem}
    assert list_models('asvit-small_8x*_in1k') == [
        'asvit-small_8xb128-progressive_in1k',
        'asvit-small_8xb128_in1k',
    ]


def test_a_model_knows_its_config_cost_and_results():
    model = find(DETECTOR.upper())
    assert model.name == DETECTOR
    assert model.config.resolve() == ROOT / f'configs/scenes/{DETECTOR}.py'
    assert model.metadata['Parameters'] == 4050116
    assert model.results[0]['Metrics']['box AP50'] > 80
    assert model.metafile.resolve() == ROOT / 'configs/scenes/metafile.yml'
    assert not model.classifies
    assert find('asvit-small_8xb128_in1k').classifies


def test_fetching_gives_paths_of_files():
    config, weights = map(Path, fetch(DETECTOR))
    assert config.is_file()
    assert weights.is_file()
    assert weights.name.startswith(f'{DETECTOR}_')


def test_names_that_are_not_there_and_models_without_weights():
    with pytest.raises(InputError, match=r'asvit-smal_8xb128_in1k.*asvit-small_8xb128_in1k'):
        find('asvit-smal_8xb128_in1k')
    for name in ('', '0'):
        with pytest.raises(InputError, match=r'it has \S+, \S+, \S+ and others'):
            find(name)
    with pytest.raises(InputError, match=f'no weights yet; these have: .*{DETECTOR}'):
        fetch('asvit-small_8xb128_in1k')


def test_the_index_is_that_of_this_tree():
    assert (index_folder() / 'model-index.yml').resolve() == ROOT / 'model-index.yml'
    names = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    files = dict.fromkeys(model.metafile.resolve() for model in models().values())
    assert [*files] == [ROOT / name for name in names]
    assert sorted(names) == sorted(
        str(path.relative_to(ROOT)) for path in ROOT.glob('configs/*/metafile.yml')
    )
