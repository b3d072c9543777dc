"""Weights of a classifier in a detector's backbone: what is taken, what is said, what is refused."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.model import PretrainedInit
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from asvit_mm.checkpoints.reading import read_checkpoint
from asvit_mm.errors import InputError
from asvit_mm.models import AsViT

from ..pickled import Calls

ARCH = '5,2,2,1|3,2,3,2|2,1,2,1|3,1,2,1|16,16'
ALL = (0, 1, 2, 3)


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def log() -> Iterator[list[str]]:
    handler = Lines()
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel('INFO')
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def classifier() -> nn.Module:
    torch.manual_seed(1)
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='asvit_mm.AsViT', arch=ARCH, img_size=32),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=128),
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    return model.eval()


def init_cfg(
    folder: Path, weights: dict[str, Tensor], prefix: str | None = 'backbone.'
) -> dict[str, Any]:
    torch.save({'state_dict': weights}, folder / 'weights.pth')
    found = {'type': 'Pretrained', 'checkpoint': str(folder / 'weights.pth')}
    return found if prefix is None else {**found, 'prefix': prefix}


def initialised(config: Any, **settings: Any) -> AsViT:
    model = AsViT(**{'arch': ARCH, 'img_size': 32, 'init_cfg': config, **settings})
    model.init_weights()
    return model.eval()


def refusal(config: Any, **settings: Any) -> str:
    with pytest.raises(InputError) as error:
        initialised(config, **settings)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_every_weight_is_used_and_the_stages_give_what_the_classifiers_do(
    classifier, log, tmp_path
):
    """At the size of pretraining; with its windows, whether fixed or not."""
    weights = classifier.state_dict()
    config = init_cfg(tmp_path, weights)
    own = {k.removeprefix('backbone.'): v for k, v in weights.items() if k.startswith('backbone.')}
    backbone = classifier.backbone
    x = torch.randn(2, 3, 32, 32)
    for windows in (None, (4, 2, 2, 1)):
        log.clear()
        model = initialised(config, out_indices=ALL, window_size=windows)
        state = model.state_dict()
        for name, value in own.items():
            assert torch.equal(state[name], value), name
        assert state.keys() - own.keys() == {
            f'norm{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')
        }
        tokens = expected = model.embed(x)
        assert torch.equal(tokens, backbone.embed(x))
        for stage, theirs in zip(model.stages, backbone.stages, strict=True):
            tokens, expected = stage(tokens), theirs(expected)
            assert torch.equal(tokens, expected)
        assert torch.equal(model(x)[3], backbone(x)[0])
        (line,) = [line for line in log if line.startswith('AsViT: ')]
        path = config['checkpoint']
        assert line.startswith(f'AsViT: {len(own)} of {len(own)} weights taken from {path}; ')
        assert line.endswith(
            'as initialised: norm0.bias, norm0.weight, norm1.bias, norm1.weight, norm2.bias, norm2.weight'
        )


def test_another_size_and_fewer_maps_are_reported(classifier, log, tmp_path):
    config = init_cfg(tmp_path, classifier.state_dict())
    model = initialised(config, img_size=(48, 64), out_indices=(1, 2))
    assert model.pos_embed.shape == (1, 12, 16, 16)
    (line,) = [line for line in log if line.startswith('AsViT: ')]
    assert 'pos_embed resampled from 8x8 to 12x16' in line
    assert 'without a place: norm3.bias, norm3.weight' in line


def test_weights_of_a_backbone_alone_and_of_a_wrapped_model(classifier, tmp_path):
    alone = classifier.backbone.state_dict()
    model = initialised(init_cfg(tmp_path, alone, prefix=None))
    wrapped = {f'module.{k}': v for k, v in alone.items()}
    again = initialised(init_cfg(tmp_path, wrapped, prefix=None))
    for name, value in alone.items():
        assert torch.equal(model.state_dict()[name], value)
        assert torch.equal(again.state_dict()[name], value)


def test_what_does_not_fit_is_refused_in_one_line(classifier, tmp_path):
    weights = classifier.state_dict()
    said = refusal(init_cfg(tmp_path, weights), arch=ARCH.replace('16,16', '16,20'))
    assert 'have another shape' in said
    assert 'give it the settings that the weights were trained with' in said
    said = refusal(init_cfg(tmp_path, weights), arch=ARCH.replace('3,2,3,2', '3,2,3,1'))
    assert '0 weights have another shape, 12 have no place in it' in said
    assert '(stages.1.blocks.1.attn.proj.bias)' in said
    said = refusal(init_cfg(tmp_path, weights), use_abs_pos_embed=False)
    assert '1 have no place in it' in said
    assert '(pos_embed)' in said
    fewer = {k: v for k, v in weights.items() if 'fc1' not in k}
    said = refusal(init_cfg(tmp_path, fewer))
    assert '10 of its own are not there (stages.0.blocks.0.ffn.fc1.bias)' in said
    said = refusal(init_cfg(tmp_path, weights, prefix='bone'))
    assert "no weights that begin with 'bone.': mind init_cfg.prefix" in said
    said = refusal(init_cfg(tmp_path, {**weights, 'backbone.pos_embed': 3}))
    assert '1 weights have another shape' in said
    for config in (dict(type='Pretrained'), init_cfg(tmp_path, weights, prefix='')):
        assert "give checkpoint='PATH'" in refusal(config)
    for address in ('open-mmlab://none', 'http://127.0.0.1:9/none.pth'):
        assert 'cannot be fetched' in refusal(dict(type='Pretrained', checkpoint=address))
    # The other forms that MMEngine takes.
    wrong = init_cfg(tmp_path, weights, prefix=None)
    assert 'does not fit' in refusal({**wrong, 'type': PretrainedInit})
    assert 'does not fit' in refusal([wrong])
    config = init_cfg(tmp_path, weights)
    Path(config['checkpoint']).write_bytes(Path(config['checkpoint']).read_bytes()[:-100])
    assert 'is truncated or not a checkpoint' in refusal(config)
    Path(config['checkpoint']).unlink()
    assert 'does not exist' in refusal(config)


def test_nothing_that_a_checkpoint_names_is_run(tmp_path):
    ran = tmp_path / 'ran'
    path = str(tmp_path / 'x.pth')
    for extra, name in (
        (Calls(os.mkdir, str(ran)), 'mkdir'),
        (Calls(getattr, torch.Tensor, 'add_'), 'getattr'),
        (Calls(eval, '1'), 'eval'),
    ):
        torch.save({'state_dict': {'a': torch.zeros(2)}, 'extra': extra}, path)
        with pytest.raises(InputError, match=f'{name}.* not loaded') as error:
            read_checkpoint(path)
        assert '\n' not in str(error.value)
    assert not ran.exists()


def test_the_log_of_a_run_is_read(tmp_path):
    """As MMEngine's checkpoints hold it: values of numpy's, and the names of its own statistics."""
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    hub = {'log_scalars': {'loss': history}, 'x': np.float32(2.5), 'y': np.arange(3)}
    path = str(tmp_path / 'x.pth')
    torch.save({'state_dict': {'a': torch.zeros(2)}, 'message_hub': hub}, path)
    for _ in range(2):
        # MMEngine's own loader leaves nothing allowed afterwards.
        torch.serialization.clear_safe_globals()
        found = read_checkpoint(path)['message_hub']
        assert found['log_scalars']['loss'].mean() == 2.0
        assert found['log_scalars']['loss'].statistics('max') == 3.0
        assert found['x'] == np.float32(2.5)
        assert found['y'].tolist() == [0, 1, 2]


def refused(path: Path, content: Any) -> str:
    if content is not None:
        torch.save(content, path)
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.filterwarnings(
    'ignore'
)  # of torch, which finds its sparse and quantized tensors unusual
def test_contents_that_are_no_weights_in_one_line(tmp_path):
    weight = torch.eye(3)
    path = tmp_path / 'x.pth'
    for odd in (
        *(weight.to_sparse(), weight.to_sparse_csr(), weight.to('meta')),
        torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
    ):
        assert "'a', which is not a dense tensor" in refused(path, {'state_dict': {'a': odd}})
    assert 'holds 3, which is not a dense tensor with a string' in refused(
        path, {'state_dict': {3: weight}}
    )
    assert 'holds 3, which is not a dense tensor with a string' in refused(path, {3: weight})
    assert 'list for its meta' in refused(path, {'state_dict': {'a': weight}, 'meta': [{}]})
    assert 'holds a list, no weights' in refused(path, [1])
    assert 'holds a list, no weights' in refused(path, {'state_dict': [1]})
    torch.jit.script(nn.Linear(2, 2)).save(path)
    assert 'not a checkpoint' in refused(path, None)
    (tmp_path / 'deep').mkdir()
    said = refused(tmp_path / 'deep', None)
    assert 'is a folder, as DeepSpeed and FSDP write it' in said
    assert 'dcp_to_torch' in said


def test_whatever_bytes_are_wrong_it_is_no_traceback(tmp_path):
    for legacy in (True, False):
        path = tmp_path / f'{legacy}.pth'
        content = {'state_dict': {'a': torch.zeros(20)}, 'meta': {'epoch': 1, 'name': 'x'}}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        for _ in range(100):
            wrong = bytearray(whole)
            for place in rng.integers(len(wrong), size=3):
                wrong[place] = rng.integers(256)
            path.write_bytes(wrong)
            with suppress(InputError):  # every other exception would end the test
                read_checkpoint(str(path))
