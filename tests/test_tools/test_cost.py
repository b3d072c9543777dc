"""tools/analysis_tools/cost.py run as users do."""

import json
import re

import pytest

from asvit_mm.arch import PRESETS
from asvit_mm.cost import count_macs, schedule_share, token_grids

from .runs import TOOLS

CONFIGS = TOOLS.parent / 'configs'
BASE = CONFIGS / 'asvit' / 'asvit-base_8xb128-progressive_in1k.py'
DIGITS = CONFIGS / 'digits' / 'asvit-seed_b64-progressive_digits.py'


def test_the_published_schedules_of_base(here):
    out = here.run('analysis_tools/cost.py', BASE, '--json', 'cost.json')
    found = json.loads((here.folder / 'cost.json').read_text())
    arch = PRESETS['base']
    assert list(found['schedules']) == ["the config's", '40-70', '80-140', '120-210']
    assert found['macs'] == count_macs(arch)
    for name, ends in {'40-70': (40, 70), '80-140': (80, 140), '120-210': (120, 210)}.items():
        phases = [(ends[0], 16), (ends[1], 8), (300, 4)]
        saved = 100 - 100 * schedule_share(arch, phases)
        schedule = found['schedules'][name]
        assert schedule['saved'] == pytest.approx(saved)
        published = {'40-70': 18.7, '80-140': 37.4, '120-210': 56.2}[name]
        assert schedule['published'] == published
        line = f'{name}: {saved:.1f} % of the multiply-adds of training saved (published: {published} %)'
        assert line in out
        assert [(p['end'], p['stride']) for p in schedule['phases']] == phases
        for phase in schedule['phases']:
            stride = phase['stride']
            assert phase['grids'] == [list(grid) for grid in token_grids(224, stride)]
            macs = count_macs(arch, token_stride=stride)
            assert phase['step'] == pytest.approx(100 * macs / count_macs(arch))
            # K1 = 8.
            assert phase['dilation'] == {16: 2, 8: 1, 4: 1}[stride]
        assert sum(phase['share'] for phase in schedule['phases']) == pytest.approx(100)
    own = found['schedules'].pop("the config's")
    assert own == found['schedules']['80-140']


def test_a_run_of_iterations_and_what_does_not_fit(here):
    options = ['train_cfg.max_epochs=4', 'custom_hooks=[]', 'model.backbone.arch=seed']
    out = here.run('analysis_tools/cost.py', DIGITS, '--cfg-options', *options)
    assert '4 epochs at 32x32 pixels' in out
    assert "the config's" not in out
    # 4 * 40 / 300 and 4 * 70 / 300 both come to one epoch: the first phase is left out.
    assert re.search(r'40-70: .*\n.*\n.*\n\W*1 \W*25.0 % \W*8 ', out), out
    assert '80-140: ' in out
    assert 'published:' not in out
    (here.folder / 'iterations.py').write_text(
        "model = dict(backbone=dict(type='asvit_mm.TokenizedVisionTransformer', arch='small'))\n"
        'train_cfg = dict(by_epoch=False, max_iters=3000)\n'
        "custom_hooks = [dict(type='asvit_mm.ProgressiveTokenizationHook', phases='80-140', "
        'by_epoch=False)]\n'
    )
    out = here.run('analysis_tools/cost.py', 'iterations.py')
    assert '3000 iterations at 224x224 pixels' in out
    assert re.search(r'80-140: [\d.]+ % of .* \(published: 37.4 %\)', out)
    assert re.search(r'800 .* 64 .* 4 .* 4x4 ', out)


def test_a_schedule_in_one_word(here):
    (here.folder / 'word.py').write_text(
        "model = dict(backbone=dict(type='asvit_mm.AsViT', arch='small'))\n"
        'train_cfg = dict(by_epoch=True, max_epochs=20)\n'
        "custom_hooks = [dict(type='asvit_mm.ProgressiveTokenizationHook', "
        "phases='16@0.25,8@0.5,4@1.0')]\n"
    )
    out = here.run('analysis_tools/cost.py', 'word.py')
    assert re.search(r"the config's: [\d.]+ % of the multiply-adds of training saved *\n", out)


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['lost.py'], "config 'lost.py' does not exist"),
        (
            [DIGITS, '--cfg-options', 'model.backbone.type=mmpretrain.ResNet'],
            'no backbone that can be built: ResNet',
        ),
        ([DIGITS, '--cfg-options', 'model.backbone.arch=tiny'], "'tiny' is neither a preset"),
        (['resnet.py'], 'ResNet is no backbone whose tokens can be changed'),
        (['headless.py'], 'has no backbone that can be built'),
        (['other.py'], "has no 'train_cfg'"),
    ],
)
def test_refusals(here, args, words):
    train = 'train_cfg = dict(by_epoch=True, max_epochs=3)\n'
    (here.folder / 'resnet.py').write_text(
        "model = dict(backbone=dict(type='mmpretrain.ResNet', depth=18))\n" + train
    )
    (here.folder / 'headless.py').write_text("model = dict(type='x')\n" + train)
    (here.folder / 'other.py').write_text("model = dict(type='x')\n")
    assert words in here.refusal('analysis_tools/cost.py', *args)
