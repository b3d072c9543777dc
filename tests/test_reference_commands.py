"""Commands of the pages that report runs, run as they stand but for what makes their work small.

Guides, the FAQ's examples and mim's commands are run at their full length by test_docs and test_mim. Of the
others, which take hours as they stand, each is run here that says something new; see :func:`chosen`.
"""

import json
import re
import shlex
import shutil

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from asvit_mm.arch import PRESETS
from asvit_mm.config_writer.configs import write_config
from asvit_mm.data.image_sets import DIGITS, write_image_set
from asvit_mm.data.scenes import write_scenes
from asvit_mm.data.source import describe_data
from asvit_mm.engine.models import build_model

from . import small_detector, test_coco_configs
from .pages import ROOT, commands, inline_commands, make_workplace, run_script
from .test_docs import DOCS, GUIDES, INSTALLING, PAGES, QUESTIONS
from .test_tools.runs import forked, write_images
from .test_tools.test_demo_detection import finished_demo

# What comes behind a tool's command; argparse takes the last value of a flag. What stands in brackets comes
# where the command has the flag itself.
SMALL = {
    'analysis_tools/benchmark.py': '--rounds 1 --batch-size 1 [--size 64]',
    'analysis_tools/benchmark_measures.py': '--rounds 1 --batch-size 4 --img-size 32 --angles 3',
    'analysis_tools/benchmark_detectors.py': '--rounds 1 --shape 64',
    'analysis_tools/benchmark_processes.py': '--rounds 1 --steps 2 --repeat 1 --img-size 16',
    'analysis_tools/benchmark_tokenization.py': 'small --rounds 1 --batch-size 1 --size 64',
    'analysis_tools/compare_methods.py': '--seeds 2 --steps 3 --reference 3 --img-size 16 --batch-size 3',
    'analysis_tools/compare_schedules.py': '--seeds 1',
    'analysis_tools/correlate.py': '--num-archs 4 --epochs 1 --repeat 1 --img-size 16 --batch-size 2 '
    '--data path/to/images',
    'analysis_tools/cost.py': '',
    'misc/demo.py': '--steps 2 --repeat 1 --cfg-options train_cfg.val_interval=60 '
    'train_dataloader.dataset.indices=8 val_dataloader.dataset.indices=8',
    'misc/demo_detection.py': '--scenes 6 --seed 3 --cfg-options train_cfg.max_epochs=1',
    'dist_train.sh': 'OPTIONS',
    'model_converters/export.py': '--size 64',
    'analysis_tools/get_flops.py': '--shape 64',
    'image_sets': '',
    'analysis_tools/measure.py': '--repeat 1 --img-size 32 --batch-size 4',
    'model_converters/publish_model.py': '--metafile work_dirs/metafile.yml',
    'scale.py': '--repeat 1 --img-size 32 --batch-size 4 [--targets 2.5M 4M] [--min-params 2.5M] '
    '[--max-params 4M]',
    'scenes': '--train 2 --val 1',
    'search.py': '--steps 2 --repeat 1 --img-size 32 --batch-size 4 [--max-latency 5000]',
    'analysis_tools/seed_percentiles.py': '--num-archs 4 --repeat 1 --img-size 16 --batch-size 3',
    'test.py': 'OPTIONS',
    'train.py': 'OPTIONS',
    'misc/update_zoo.py': '--check',  # as it stands it writes into the repository
}
# Commands that nothing runs.
NOT_RUN = {
    'make demo': 'builds .venv; tools/misc/demo.py is run here',
    'make demo-detection': 'builds .venv; tools/misc/demo_detection.py is run here',
    'make test': 'runs the tests',
    'python -m pytest tests/test_cost.py tests/test_models tests/test_measures': 'runs tests',
    'python -m http.server --bind 127.0.0.1 --directory asvit_mm/weights': 'does not end',
    'source .venv/bin/activate': 'of the shell that it is typed in',
    "pip install '.[mminstall]'": 'run in tests/test_setup.py',
}
# Commands that their page says are refused, and words of the line.
REFUSED = {
    'python tools/search.py --max-params 1M --work-dir work_dirs/small': 'give at least 1,300,712',
}
CONFIG = 'configs/digits/asvit-3.0m-10mf_b64-progressive_digits.py'


# ---- Which commands are run


def documented():
    """The commands of all pages, each once."""
    pages = (
        ROOT / 'README.md',
        *PAGES,
        *sorted(DOCS.glob('studies/*/*.md')),
        *sorted(ROOT.glob('configs/*/README.md')),
    )
    return list(dict.fromkeys(c for p in pages for c in (*commands(p), *inline_commands(p))))


def run_elsewhere():
    """The commands that other tests run as they stand: guides, the FAQ's examples, mim's."""
    guides = {line for page in GUIDES for line in commands(page)} - {*INSTALLING}
    faq = {line for _, _, example, _ in QUESTIONS for line in example.splitlines()}
    mim = {line for line in commands(DOCS / 'zoo.md') if line.startswith(('mim ', 'python -m '))}
    return guides | faq | mim


def tool_of(command):
    """The file name of a command's tool, or the last name of its module; None: neither is ours."""
    found = re.search(r'\btools/([\w/]+\.(?:py|sh))|-m asvit_mm\.(?:\w+\.)*(\w+)', command)
    return (found[1] or found[2]) if found else None


def said_by(command):
    """What a command says to its tool: flags, settings, models, configs; and torchrun to any tool.

    Sizes, numbers, data, folders and architectures are values of these, most of which :data:`SMALL` replaces.
    """
    words = shlex.split(command)
    found = set()
    for word in words:
        if word.startswith('--') and word != '--launcher':
            found.add(word.partition('=')[0])
        elif re.fullmatch(r'configs/\S+\.py|\w+::?\S+', word) or word in PRESETS:
            found.add(word)
        elif setting := re.match(r'[a-z][\w.]*(?==)', word):
            found.add(setting[0])
    found.discard('--nproc_per_node')
    tool = tool_of(command)
    return {(tool,), *((tool, word) for word in found), *(w for w in words if w == 'torchrun')}


def chosen(candidates):
    """The commands without those that say nothing but what others say; those that say least go first."""
    found = list(candidates)
    for command in sorted(found, key=lambda c: len(said_by(c))):
        others = [c for c in found if c != command]
        if said_by(command) <= set().union(*map(said_by, others)):
            found = others
    return found


DOCUMENTED = documented()
HERE = [c for c in DOCUMENTED if tool_of(c) in SMALL and c not in run_elsewhere()]
RUN = chosen(c for c in HERE if c not in REFUSED)


def test_every_command_is_run_or_has_a_reason_not_to_be():
    assert set(DOCUMENTED) - run_elsewhere() - {*HERE} == {*NOT_RUN}
    assert {*REFUSED} <= {*HERE}


# ---- What they find


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """What configs read, a few images each; the digits whole, since tools take no part of them."""
    root = tmp_path_factory.mktemp('data')
    write_image_set(DIGITS, root / 'digits')
    write_classes(root / 'few_digits')
    write_classes(root / 'mnist5k')
    for name in ('scenes', 'coco'):
        write_scenes(root / name, train=2, val=1, size=64)
    write_classes(root / 'imagenet')
    (root / 'imagenet/meta').mkdir()
    for part in ('train', 'val'):
        # Of a thousand classes: their folders need not be there where a list says what there is.
        lines = [f'{label}/0.png {label}\n' for label in range(10)]
        (root / f'imagenet/meta/{part}.txt').write_text(''.join(lines))
    return root


def write_classes(folder):
    """An image of each of ten classes, to train on and to hold out."""
    for part in ('train', 'val'):
        for label in range(10):
            (folder / part / str(label)).mkdir(parents=True)
            Image.new('RGB', (32, 32), (25 * label,) * 3).save(folder / part / f'{label}/0.png')


def prepare(command, folder, data):
    """Make a folder in which there is what the command is about, and nothing else."""
    make_workplace(folder)
    write_images(folder / 'path/to')
    tool = tool_of(command)
    if 'tools/' in command:  # our modules write theirs
        (folder / 'data').mkdir()
        for path in data.iterdir():
            (folder / 'data' / path.name).symlink_to(path)
    if tool == 'misc/demo_detection.py':
        finished_demo(folder / 'work_dirs/demo')
        # Sixty epochs of the peer's classifier, which no option shortens.
        (folder / 'data/digits').unlink()
        (folder / 'data/digits').symlink_to(data / 'few_digits')
    for word in shlex.split(command):
        place(folder, word.rpartition('=')[2], command)


def place(folder, word, command):
    """Write what a word of the command names, if it is a file that the command reads.

    Copies, no links: what a command writes never reaches the repository.
    """
    path = folder / word
    if path.suffix == '.pth' or word == 'CHECKPOINT':
        path.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / word).is_file():
            shutil.copy(ROOT / word, path)
            return
        config = folder / config_of(command)
        model = build_model(Config.fromfile(config), str(config))
        torch.save({'state_dict': model.state_dict()}, path)
    elif path.name == 'result.json':
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({'arch': str(PRESETS['seed'])}))
    elif path.match('work_dirs/**/configs/*_images.py'):
        images = describe_data(str(folder / 'path/to/images'), 32)
        write_config(path, PRESETS['seed'], images)


# ---- How they are made small


def config_of(command):
    """The path of the config that a command of training or testing names."""
    return next(w for w in shlex.split(command) if re.fullmatch(r'(?!tools/)[\w./-]+\.py', w))


def options(config):
    """Options that make a training or a test with a config one of few, small images."""
    if config.resolve() in test_coco_configs.LEAVES:
        return test_coco_configs.options(config.resolve(), Config.fromfile(config))
    cfg = Config.fromfile(config)
    if cfg.default_scope == 'mmdet':
        return small_detector.options('scenes')[1:]
    found, epochs = ['train_cfg.val_interval=1', 'train_dataloader.batch_size=2'], 1
    for i, hook in enumerate(cfg.get('custom_hooks') or ()):
        epochs = len(hook.phases)
        found += [f'custom_hooks.{i}.phases.{k}.end={k + 1}' for k in range(epochs)]
    for i, scheduler in enumerate(cfg.param_scheduler):
        if 'end' not in scheduler:  # it goes to the end of training, and cannot begin behind it
            found.append(f'param_scheduler.{i}.begin=0')
    for part in ('train', 'val', 'test'):
        found += [
            f'{part}_dataloader.dataset.indices=4',
            f'{part}_dataloader.num_workers=0',
            f'{part}_dataloader.persistent_workers=False',
        ]
    return [f'train_cfg.max_epochs={epochs}', *found]


def made_small(command, folder):
    """The command with what :data:`SMALL` says behind it, and one process for several GPUs."""
    tool, words = tool_of(command), shlex.split(command)
    more = re.sub(
        r'\[(--[\w-]+)(.*?)\]', lambda m: m[1] + m[2] if m[1] in words else '', SMALL[tool]
    )
    if more == 'OPTIONS':
        more = shlex.join(['--cfg-options', *options(folder / config_of(command))])
    if tool == 'dist_train.sh':
        command = re.sub(r'(\.py) \d', r'\1 1', command)
    return f'{command} {more}'


def run(command, folder):
    """Status and output of a command that is typed in a folder."""
    words = [word for word in shlex.split(command) if not re.match('[A-Z_]+=', word)]
    if words[0] == 'python':
        return forked(words[1:], folder)
    done = run_script(command, folder, PET_STANDALONE='1')  # torchrun finds a free port itself
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('command', RUN, ids=tool_of)
def test_commands_run(command, data, tmp_path):
    command = re.sub(r'\bCONFIG\b', CONFIG, command)
    prepare(command, tmp_path, data)
    into_the_repository = [
        path.name
        for path in tmp_path.rglob('*')
        if path.is_symlink() and ROOT in path.resolve().parents
    ]
    assert sorted(into_the_repository) == ['configs', 'tools']
    status, output = run(made_small(command, tmp_path), tmp_path)
    assert status == 0, output[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize('command', REFUSED)
def test_commands_are_refused_where_the_page_says_so(command, tmp_path):
    status, output = run(command, make_workplace(tmp_path))
    assert status == 2
    assert output.splitlines()[-1].startswith('error: ')
    assert REFUSED[command] in output
