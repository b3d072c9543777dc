"""Metafiles and model cards: nothing in them is stale, and what is stale is found."""

import shutil
from pathlib import Path

import pytest
import yaml

from asvit_mm.analysis.flops import count_config
from asvit_mm.checkpoints.hosting import WEIGHTS_URL
from asvit_mm.errors import InputError
from asvit_mm.zoo.cards import TABLE, dump, refresh
from asvit_mm.zoo.index import models

ROOT = Path(__file__).parents[2]
DIGITS = 'configs/digits/metafile.yml'
FOLDERS = ('searched', 'digits', 'scenes')


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A repository with the models of three folders."""
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    for page in tmp_path.glob('configs/*/README.md'):
        if page.parent.name not in FOLDERS:
            page.unlink()
    shutil.copytree(ROOT / 'asvit_mm/weights', tmp_path / 'asvit_mm/weights')
    index = {'Import': [f'configs/{name}/metafile.yml' for name in FOLDERS]}
    (tmp_path / 'model-index.yml').write_text(yaml.safe_dump(index))
    blocks = [found[0] for found in TABLE.finditer((ROOT / 'docs/zoo.md').read_text())]
    page = ''.join(block for block in blocks if block.split()[2].endswith(FOLDERS))
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'docs/zoo.md').write_text(page)
    return tmp_path


def stale(root: Path) -> list[str]:
    texts = refresh(root, count_config)
    return sorted(str(p.relative_to(root)) for p, text in texts.items() if p.read_text() != text)


def change(root: Path, edit, name: str = DIGITS) -> None:
    content = yaml.safe_load((root / name).read_text())
    edit(content['Models'])
    (root / name).write_text(dump(content))


def test_nothing_is_stale():
    assert stale(ROOT) == []


@pytest.mark.slow
def test_what_detectors_cost_is_counted_again(copied):
    """Of each kind of detector; their sizes differ in numbers only."""
    kinds = ('asvit_coco', 'cascade-mask-rcnn_asvit-s', 'retinanet_asvit-s')
    for model in models().values():
        if model.name.startswith(kinds):
            height, width = map(int, model.metadata['Image Size'].split('x'))
            counted = count_config(model.config, (height, width))
            assert counted == (model.metadata['Parameters'], model.metadata['FLOPs'])
    texts = refresh(copied, count_config, recount=True)
    assert [p for p, text in texts.items() if p.read_text() != text] == []


def test_wrong_figures_are_found_and_corrected(copied):
    """Also what an entry should not have: a share of training without phases, a classifier's image size."""
    searched, wrong = (
        'configs/searched/metafile.yml',
        {'Training FLOPs (%)': 3.0, 'Image Size': '224x224'},
    )
    change(copied, lambda models: models[0]['Metadata'].update(wrong), searched)
    wrong = {'FLOPs': 1, 'Parameters': 2, 'Architecture String': 'x', 'Training FLOPs (%)': 3.0}
    change(copied, lambda models: models[0]['Metadata'].update(wrong))
    assert stale(copied) == [DIGITS, searched]
    texts = refresh(copied, count_config)
    for name in (DIGITS, searched):
        assert texts[copied / name] == (ROOT / name).read_text()


def test_entries_that_cannot_be_counted_are_named(copied):
    scenes = 'configs/scenes/metafile.yml'
    change(copied, lambda models: models[0]['Metadata'].pop('Image Size'), scenes)
    with pytest.raises(InputError, match='mask-rcnn_asvit-seed_fpn_12e_scenes is a detector'):
        stale(copied)
    swin = {'Name': 'swin', 'Config': 'configs/scenes/swin-c40_b64_digits.py'}
    change(copied, lambda models: models.append(swin))
    with pytest.raises(InputError, match=r'swin: .*architecture dict.*embed_dims'):
        stale(copied)


def test_a_table_of_a_folder_that_the_index_lacks(copied):
    page = copied / 'docs/zoo.md'
    page.write_text(page.read_text().replace('models: configs/scenes', 'models: configs/nothing'))
    with pytest.raises(InputError, match='no metafile of configs/nothing'):
        stale(copied)


def test_another_architecture_changes_tables_and_metafile(copied):
    config = copied / 'configs/digits/asvit-3.0m-10mf_b64-progressive_digits.py'
    config.write_text(config.read_text().replace('32,40', '32,48').replace('320', '384'))
    assert stale(copied) == ['configs/digits/README.md', DIGITS, 'docs/zoo.md']
    assert '32,48' in refresh(copied, count_config)[copied / 'docs/zoo.md']


def test_a_new_result_reaches_every_table(copied):
    def edit(models):
        models[0]['Results'][0]['Metrics']['Top 1 Accuracy'] = 12.25

    change(copied, edit)
    assert stale(copied) == ['configs/digits/README.md', 'docs/zoo.md']
    row = next(
        line
        for line in refresh(copied, count_config)[copied / 'docs/zoo.md'].splitlines()
        if line.startswith('| [asvit-seed_b64-progressive_digits]')
    )
    assert '| 12.25 |' in row


def test_published_and_measured_figures_have_columns_of_their_own():
    text = (ROOT / 'docs/zoo.md').read_text()
    assert 'Top 1 Accuracy, published' in text
    assert 'Top 1 Accuracy, measured here' in text
    for path in ROOT.glob('configs/*/metafile.yml'):
        for model in yaml.safe_load(path.read_text())['Models']:
            for result in model.get('Results', ()):
                published = result['Source'].startswith('published')
                assert published or result['Source'] == 'measured here'
                assert published or {'Command', 'Hardware'} <= result.keys()
                assert all(m.startswith('Published ') is published for m in result['Metrics'])


def test_addresses_follow_the_one_setting(copied):
    def edit(models):
        models[1]['Weights'] = models[1]['Weights'].replace(WEIGHTS_URL, 'https://old.invalid/x')

    change(copied, edit)
    assert stale(copied) == [DIGITS]
    text = refresh(copied, count_config)[copied / DIGITS]
    assert 'old.invalid' not in text
    assert f'Weights: {WEIGHTS_URL}/asvit-3.0m' in text


def test_one_option_moves_all_weights(copied):
    hosting = 'asvit_mm/checkpoints/hosting.py'
    (copied / 'asvit_mm/checkpoints').mkdir()
    shutil.copy(ROOT / hosting, copied / hosting)
    texts = refresh(copied, count_config, weights_url='https://host.invalid/asvit/')
    changed = {str(p.relative_to(copied)) for p, text in texts.items() if p.read_text() != text}
    assert changed == {hosting, DIGITS, 'configs/scenes/metafile.yml'}
    setting = {}
    (line,) = (x for x in texts[copied / hosting].splitlines() if x.startswith('WEIGHTS_URL'))
    exec(line, setting)
    assert setting['WEIGHTS_URL'] == 'https://host.invalid/asvit'
    for model in yaml.safe_load(texts[copied / DIGITS])['Models'][1:]:
        assert model['Weights'].startswith('https://host.invalid/asvit/asvit-3.0m')


@pytest.mark.parametrize(
    'address',
    ['', 'host.invalid', 'ftp://host.invalid', "https://a'b", 'https://h/?x=1', 'http://'],
)
def test_what_is_no_base_address(copied, address):
    with pytest.raises(InputError, match='is no base address'):
        refresh(copied, count_config, weights_url=address)


def test_weights_that_are_not_what_their_entry_says(copied):
    change(copied, lambda models: models[1]['Metadata'].update({'Weights SHA-256': '0' * 64}))
    with pytest.raises(InputError, match='not named by its SHA-256'):
        stale(copied)
