"""What tools/misc/demo.py sums up, from the files of a finished run."""

import json
import runpy
from pathlib import Path

from asvit_mm.arch import as_architecture
from asvit_mm.config_writer.configs import config_text
from asvit_mm.config_writer.naming import RunConfigs
from asvit_mm.cost import count_params
from asvit_mm.data.source import describe_data

from .runs import TOOLS

FIRST, SECOND = '4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,2|16,12', '4,2,2,1|2,1,2,1|2,1,2,1|2,1,2,1|16,16'


def test_an_earlier_demo_in_the_same_folder_is_not_summed_up(tmp_path):
    data, train = describe_data('digits', 32), tmp_path / 'train'
    series = RunConfigs(data, progressive=True)
    (train / '1' / 'vis_data').mkdir(parents=True)
    configs = []
    for arch in map(as_architecture, (FIRST, SECOND)):
        configs.append(train / Path(series.add(arch)['config']).name)
        configs[-1].write_text(config_text(arch, data, progressive=True))
    (train / '1' / '1.log').touch()
    (train / '1' / 'vis_data' / 'scalars.json').write_text(
        '{"loss": 1.0, "iter": 23, "epoch": 1, "step": 23}\n{"accuracy/top1": 90.0, "step": 1}\n'
    )
    (train / 'test.json').write_text(json.dumps({'accuracy/top1': 98.61}))
    (tmp_path / 'search').mkdir()
    (tmp_path / 'search' / 'result.json').write_text(json.dumps({'arch': 'a seed'}))
    summary = runpy.run_path(str(TOOLS / 'misc/demo.py'))['summary']
    for config, arch in zip(configs, (FIRST, SECOND), strict=True):
        text = summary(tmp_path, config, 'epoch_40.pth', {'train': 7.0})
        lines = {line[:14].strip(): line[14:].strip() for line in text.splitlines()}
        assert lines['architecture'] == arch
        assert lines['parameters'] == f'{count_params(as_architecture(arch), 10, img_size=32):,}'
        assert lines['test accuracy'].startswith('98.61 %')
        assert lines['time to train'] == '7 s'
    assert (train / 'learning_curve.png').is_file()
