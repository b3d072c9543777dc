import json

import pytest

from asvit_mm.arch import as_architecture
from asvit_mm.cost import schedule_share

TOOL = 'analysis_tools/benchmark_tokenization.py'
ARCH = '4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16'


def test_steps_and_schedules(here):
    out = here.run(TOOL, ARCH, '--size', 64, '--batch-size', 2, '--rounds', 2, '--json', 'b.json')
    (found,) = json.loads((here.folder / 'b.json').read_text())['models']
    assert list(found['steps']) == ['16', '8', '4']
    macs = [step['macs'] for step in found['steps'].values()]
    assert macs[0] < macs[1] < macs[2]
    seconds = {stride: step['seconds'] for stride, step in found['steps'].items()}
    schedule = found['schedules']['120-210']
    spent = (120 * seconds['16'] + 90 * seconds['8'] + 90 * seconds['4']) / (300 * seconds['4'])
    assert schedule['time_saved'] == pytest.approx(100 * (1 - spent))
    # Counted on the classifier, as timed: the multiply-adds of its head are the same at every stride.
    share = schedule_share(as_architecture(ARCH), [(120, 16), (210, 8), (300, 4)], 64, 1000)
    assert schedule['macs_saved'] == pytest.approx(100 * (1 - share), abs=0.1)
    assert schedule['seen'] == pytest.approx(100 * schedule['time_saved'] / schedule['macs_saved'])
    assert 'of it seen on the clock' in out


def test_refusals(here):
    assert '--rounds 0 is too small' in here.refusal(TOOL, '--rounds', 0)
    assert 'neither a preset' in here.refusal(TOOL, 'tiny', '--rounds', 1)
