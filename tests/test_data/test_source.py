"""What --data means: measuring, written configs and training agree on classes and files."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS

from asvit_mm.arch import as_architecture
from asvit_mm.config_writer.configs import config_text, train_command
from asvit_mm.config_writer.detection import detection_text
from asvit_mm.data.folder import IMAGE_SUFFIXES, scan_folder
from asvit_mm.data.source import describe_data
from asvit_mm.errors import InputError

TINY = as_architecture('4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,2|16,12')
NASTY = [
    "a\nimport pathlib; pathlib.Path('canary').touch()\n'",
    "'\"\"\"'''",
    'back\\slash\\',
    '{{ fileDirname }}',
    '{{$HOME:x}}',
    "{{'$NOT_SET:'}}",
    '{{{ _base_.model }}}',
    os.fsdecode(b'\xff not UTF-8'),
    '\u2028 $(touch canary) `touch canary` %s #',
]


def place(root, *files):
    """Empty files: neither the scan nor a dataset looks into them."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def built(cfg, split='train'):
    """The dataset of a config: its classes, and each file with its label."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return dataset.metainfo['classes'], sorted((i['img_path'], i['gt_label']) for i in infos)


names = st.text('ab.B é{}$\'"\\\n#~-', min_size=1, max_size=6).filter(
    lambda name: not name.startswith('.') and not name.lower().endswith(IMAGE_SUFFIXES)
)
images = st.builds(
    lambda folders, name, suffix: '/'.join([*folders, name + suffix]),
    st.lists(names, max_size=2),
    names,
    st.sampled_from([*IMAGE_SUFFIXES, '.PNG', '.Tiff']),
)
splits = st.sampled_from([('', ''), ('train', 'val'), ('Train', 'Val'), ('train', 'test')])


def make_class(path, files, extras):
    """A class folder with ``files``, and with what is no image of it."""
    path.mkdir(parents=True)
    place(path, *files)
    if 'hidden' in extras:
        place(path, '.ipynb_checkpoints/x.png', '._x.jpg', '.x.png', '__MACOSX/x.png')
    if 'other' in extras:
        place(path, 'notes.txt', 'movie.gif', 'png')
        os.mkfifo(path / 'pipe.png')
        (path / 'gone.png').symlink_to(path / 'nothing')
    if 'circle' in extras:
        (path / 'circle').symlink_to(path)
        (path / 'out').symlink_to(path.parent)


def test_hidden_files_and_folders_are_no_images(tmp_path):
    files = (
        'a/1.png',
        'b/2.webp',
        'a/.ipynb_checkpoints/1.png',
        '.ipynb_checkpoints/x.png',
        'b/._2.webp',
    )
    scan = scan_folder(str(place(tmp_path, *files, '__MACOSX/a/1.png')))
    assert scan.classes == ('a', 'b')
    assert scan.files == ('a/1.png', 'b/2.webp')


@pytest.mark.slow
@given(
    names,
    splits,
    st.dictionaries(names, st.lists(images, min_size=1, max_size=3), min_size=2, max_size=3),
    st.sets(st.sampled_from(['hidden', 'other', 'circle', 'linked'])),
)
@settings(max_examples=4)
def test_a_written_config_trains_on_what_is_scanned(name, split, classes, extras):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / name
        expected = {}
        for part in set(split):
            for label, (one, files) in enumerate(sorted(classes.items())):
                target = path = root / part / one
                if 'linked' in extras:
                    target = Path(folder) / 'elsewhere' / part / str(label)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.symlink_to(target)
                make_class(target, files, extras - {'circle'} if 'linked' in extras else extras)
                found = expected.setdefault(part, set())
                found |= {(str(path / file), label) for file in files}
            if 'hidden' in extras:
                place(root / part, '.ipynb_checkpoints/x.png', '._a')
        data = describe_data(root)
        assert data.folder.classes == tuple(sorted(classes))
        assert data.num_classes == len(classes)
        scanned = [str(Path(data.folder.path) / file) for file in data.folder.files]
        assert sorted(scanned) == sorted(file for file, _ in expected[split[0]])
        config = Path(folder) / 'config.py'
        config.write_text(config_text(TINY, data), encoding='utf-8')
        cfg = Config.fromfile(config)
        for loader, part in zip(('train', 'val'), split, strict=True):
            if part or loader == 'train':
                assert built(cfg, loader) == (tuple(sorted(classes)), sorted(expected[part]))
            else:
                assert cfg.get('val_dataloader') is None


def test_names_do_not_become_code(tmp_path, monkeypatch):
    """Of the folders above the data, of its class folders, of the config that is written."""
    monkeypatch.chdir(tmp_path)
    classes = ['a', *NASTY]
    root = place(tmp_path.joinpath(*NASTY), *(f'train/{name}/0.png' for name in classes))
    config = place(root, 'unlabelled/0.png') / 'data.py'
    config.write_text(
        'data_preprocessor = dict(num_classes=2)\n'
        "train_dataloader = dict(batch_size=2, dataset=dict(type='CIFAR10', data_root='x'))\n"
    )
    for spec in (root, root / 'unlabelled', config):
        data = describe_data(spec)
        for write in (config_text, detection_text) if spec == root else (config_text,):
            text = write(TINY, data, path=str(root / 'config.py'))
            (tmp_path / 'config.py').write_text(text, encoding='utf-8')
            cfg = Config.fromfile(tmp_path / 'config.py')
            assert cfg.model.backbone.arch == str(TINY)
            assert all(line.startswith('#') for line in text.partition('\n\n')[0].splitlines())
            if spec == root and write is config_text:
                assert cfg.data_root == str(root)
                assert built(cfg)[0] == tuple(sorted(classes))
    command = train_command(root / 'config.py', data)
    assert command.isprintable()
    done = subprocess.run(['bash', '-c', f'printf "%s|" {command}'], capture_output=True)
    assert os.fsdecode(done.stdout) == f'python|tools/train.py|{root / "config.py"}|'
    assert not list(tmp_path.rglob('canary'))


def test_a_config_decides_the_size_whatever_its_suffix(tmp_path):
    model = '{"head": {"num_classes": 7}, "backbone": {"img_size": 56}}'
    for name, text in (
        ('mine.json', f'{{"model": {model}}}'),
        ('mine.yml', f'model: {model}'),
        ('mine.py', f'model = {model}'),
    ):
        (tmp_path / name).write_text(text)
        data = describe_data(tmp_path / name)
        assert (data.kind, data.pixels, data.img_size, data.num_classes) == ('config', 56, 56, 7)
        assert describe_data(str(tmp_path / name), 48).img_size == 48


def test_sizes_without_a_config(tmp_path, monkeypatch):
    place(tmp_path, 'noise/a/0.png', 'noise/b/0.png')
    monkeypatch.chdir(tmp_path)
    for spec, kind, pixels, img_size in (
        ('digits', 'digits', 32, 32),
        ('noise', 'imagenet', 224, 224),
        ('photographs', 'imagenet', 224, 224),
        ('./noise', 'folder', 224, 224),
        (Path('noise'), 'folder', 224, 224),
        ('noise/a', 'imagenet', 224, 224),
    ):
        data = describe_data(spec)
        assert (data.kind, data.pixels, data.img_size) == (kind, pixels, img_size)
    # Networks are measured on small noise, and trained on ImageNet's images as they are.
    assert (describe_data('noise', 32).pixels, describe_data('noise', 32).img_size) == (32, 224)


@pytest.mark.parametrize(
    ('files', 'note'),
    [
        (['a/0.png', 'b/0.png'], 'no val/ beside train/'),
        (['train/a/0.png', 'train/b/0.png', 'Test/a/0.png', 'Test/b/0.png'], 'Test/ is the validation'),
        (
            ['train/a/0.png', 'train/b/0.png', 'val/a/0.png', 'val/b/0.png', 'test/0.png'],
            'not used: test/ beside train/',
        ),
        (['a/0.png', 'b/0.png', '0.png'], '1 images beside the class folders'),
        (['a/0.png', '0.png'], 'no class folders'),
    ],
)  # fmt: skip
def test_what_is_not_used_is_said(tmp_path, files, note):
    data = describe_data(place(tmp_path, *files))
    assert note in data.note
    assert note in config_text(TINY, data)


def test_pictures_of_trains_are_a_class(tmp_path):
    scan = scan_folder(str(place(tmp_path, 'bus/0.png', 'car/0.png', 'train/0.png')))
    assert (scan.classes, scan.train) == (('bus', 'car', 'train'), '')


@pytest.mark.parametrize(
    ('files', 'words'),
    [
        (['a/0.png', 'b/0.gif', 'c/0.png'], "/b' holds no images: add some"),
        (['notes.txt'], r'no images in .*\.jpg, .*\.webp\)'),
        (['train/a/0.png', 'train/b/0.png', 'val/a/0.png'], "'b' is in one only"),
        (['train/a/0.png', 'train/b/0.png', 'val/a/x', 'val/b/x'], "no images in .*/val'"),
    ],
)
def test_folders_that_would_mislead_are_refused(tmp_path, files, words):
    with pytest.raises(InputError, match=words):
        describe_data(place(tmp_path / 'line\nbreak', *files))
    with pytest.raises(InputError) as caught:
        describe_data(tmp_path / 'line\nbreak')
    assert '\n' not in str(caught.value)


def test_a_link_to_itself_is_named(tmp_path):
    (tmp_path / 'x.png').symlink_to(tmp_path / 'x.png')
    with pytest.raises(InputError, match=r'x\.png.* cannot be read'):
        describe_data(tmp_path)


def test_class_folders_that_came_later_are_refused(tmp_path):
    data = describe_data(place(tmp_path, 'a/0.png', 'c/0.png'))
    cfg = Config.fromstring(config_text(TINY, data), '.py')
    place(tmp_path, 'b/0.png')
    with pytest.raises(InputError, match=r"of the config .'b' is in one only"):
        built(cfg)


@pytest.mark.parametrize(
    ('spec', 'words'), [('nowhere', 'no data at'), ('no.py', 'no data at'), (__file__[:-1], 'no ')]
)
def test_missing_data_is_one_line(spec, words):
    with pytest.raises(InputError, match=words):
        describe_data(spec)
