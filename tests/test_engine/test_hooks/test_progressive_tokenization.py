"""Progressive tokenization in real small runs: phases, evaluation, resume, EMA, refusals."""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner, find_latest_checkpoint
from mmpretrain.registry import HOOKS as MMPRETRAIN_HOOKS
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

from asvit_mm.analysis.cuda_report.hook_runs import Bars, HookRuns
from asvit_mm.analysis.cuda_report.rows import Context
from asvit_mm.arch import as_architecture
from asvit_mm.cost import count_macs, schedule_share
from asvit_mm.data.scenes import write_scenes
from asvit_mm.engine.hooks import ProgressiveTokenizationHook
from asvit_mm.engine.hooks.progressive_tokenization import count_images
from asvit_mm.errors import InputError

from ...autocast import CPUAutocast
from ...small_detector import options as detector_options
from ...test_tools.runs import PROCESSES, Here

CONFIGS = Path(__file__).parents[3] / 'configs'
HOOK = 'asvit_mm.ProgressiveTokenizationHook'
PHASES = [dict(end=2, stride=16), dict(end=4, stride=8), dict(end=6, stride=4)]
SIZE = 32
MODEL = dict(
    type='ImageClassifier',
    backbone=dict(type='asvit_mm.AsViT', arch='4,2,2|2,1,2|2,1,2|2,1,2|16', img_size=SIZE),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=256),
)


class Recorder(Hook):
    """What every iteration saw, after every other hook."""

    priority = 'LOWEST'

    def __init__(self, kill_at: int | None = None) -> None:
        self.train: list[tuple[int, int]] = []
        self.val: list[int] = []
        self.parameters: set[int] = set()
        self.kill_at = kill_at

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.kill_at:
            raise KeyboardInterrupt
        backbone = _backbone(runner)
        self.train.append((backbone.token_stride, backbone.token_dilation))
        self.parameters |= {id(p) for p in runner.model.parameters()}

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.val.append(_backbone(runner).token_stride)


def _backbone(runner: Runner) -> torch.nn.Module:
    return getattr(runner.model, 'module', runner.model).backbone


def _loader(**sampler: Any) -> dict[str, Any]:
    return dict(
        batch_size=8,
        num_workers=0,
        dataset=Bars(),
        sampler=dict(type='DefaultSampler', shuffle=True) | sampler,
        collate_fn=dict(type='default_collate'),
    )


def _runner(work_dir: Path, *hooks: Hook | dict, **settings: Any) -> Runner:
    settings = (
        dict(
            model=MODEL,
            train_dataloader=_loader(),
            val_dataloader=_loader(shuffle=False),
            val_evaluator=dict(type='Accuracy'),
            train_cfg=dict(by_epoch=True, max_epochs=6),
            val_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            randomness=dict(seed=0),
        )
        | settings
    )
    return Runner(
        work_dir=str(work_dir),
        custom_hooks=list(hooks),
        default_scope='mmpretrain',
        experiment_name=uuid.uuid4().hex,
        log_level='ERROR',
        **settings,
    )


def test_phases_are_seen_at_their_epochs_and_evaluation_at_the_full_grid(tmp_path: Path) -> None:
    recorder = Recorder()
    runner = _runner(tmp_path, dict(type=HOOK, phases=PHASES), recorder)
    own = {id(p) for p in runner.model.parameters()}
    runner.logger.setLevel('INFO')
    for handler in runner.logger.handlers:
        handler.setLevel('INFO')
    runner.train()
    # Two iterations an epoch; K1 = 4, so the paper's own dilations.
    assert recorder.train == [(16, 5)] * 4 + [(8, 2)] * 4 + [(4, 1)] * 4
    assert recorder.val == [4] * 12
    assert recorder.parameters == own
    assert _backbone(runner).token_stride == 4
    # The log names each change once.
    log = next(tmp_path.glob('*/*.log')).read_text()
    lines = [line.partition('Progressive tokenization: ')[2] for line in log.splitlines()]
    assert [line for line in lines if line] == [
        'token stride 16, dilation 5 from epoch 1 to 2.',
        'token stride 8, dilation 2 from epoch 3 to 4.',
        'token stride 4, dilation 1 from epoch 5 to 6.',
    ]


def test_a_killed_run_resumed_in_a_phase_equals_the_undisturbed_one(tmp_path: Path) -> None:
    hooks = [dict(type=HOOK, phases=PHASES), dict(type='EMAHook', momentum=0.1)]
    whole = _runner(tmp_path / 'whole', *hooks)
    whole.train()

    with pytest.raises(KeyboardInterrupt):
        _runner(tmp_path / 'cut', *hooks, Recorder(kill_at=7)).train()
    # Its checkpoint, of an early phase, is an ordinary model's.
    weights = torch.load(find_latest_checkpoint(str(tmp_path / 'cut')), weights_only=False)
    MMPRETRAIN_MODELS.build(MODEL).load_state_dict(weights['state_dict'], strict=True)
    recorder = Recorder()
    resumed = _runner(tmp_path / 'cut', *hooks, recorder, resume=True)
    resumed.train()

    # Killed in the second epoch of the second phase, resumed at that epoch's start.
    assert recorder.train == [(8, 2)] * 2 + [(4, 1)] * 4
    states = [
        torch.load(find_latest_checkpoint(str(tmp_path / name)), weights_only=False)
        for name in ('whole', 'cut')
    ]
    for part in ('state_dict', 'optimizer', 'ema_state_dict'):
        torch.testing.assert_close(states[0][part], states[1][part], rtol=0, atol=0)


@pytest.mark.cuda
def test_mixed_precision_on_cuda_is_deterministic_and_resumed_in_a_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    runs = HookRuns(Context('cuda', quick=True, folder=tmp_path))
    assert runs.check_phases()['passed']
    assert runs.check_resumed()['passed']


def test_the_averaged_model_follows_the_phases(tmp_path: Path) -> None:
    ema = MMPRETRAIN_HOOKS.build(dict(type='EMAHook'))
    seen: list[tuple[str, int]] = []

    class EmaRecorder(Hook):
        priority = 'LOWEST'

        def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
            seen.append(('train', ema.ema_model.module.backbone.token_stride))

        def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
            seen.append(('val', ema.ema_model.module.backbone.token_stride))

    _runner(tmp_path, dict(type=HOOK, phases=PHASES), ema, EmaRecorder()).train()
    assert [stride for kind, stride in seen if kind == 'train'] == [16] * 4 + [8] * 4 + [4] * 4
    assert {stride for kind, stride in seen if kind == 'val'} == {4}


@pytest.mark.parametrize(
    ('phases', 'strides'),
    [
        # 6 * 80 / 300 = 1.6 and 6 * 140 / 300 = 2.8.
        ('80-140', [16] * 4 + [8] * 2 + [4] * 6),
        ([dict(end=0.5, stride=8, dilation=1), dict(end=1.0, stride=4)], [8] * 6 + [4] * 6),
    ],
)
def test_schedules_that_do_not_name_epochs(tmp_path: Path, phases: Any, strides: list) -> None:
    recorder = Recorder()
    _runner(tmp_path, dict(type=HOOK, phases=phases), recorder).train()
    assert [stride for stride, _ in recorder.train] == strides
    if phases != '80-140':
        assert {dilation for _, dilation in recorder.train} == {1}


def test_validation_at_the_grid_of_the_phase(tmp_path: Path) -> None:
    recorder = Recorder()
    _runner(tmp_path, dict(type=HOOK, phases=PHASES, val_grid='current'), recorder).train()
    assert recorder.val == [16] * 4 + [8] * 4 + [4] * 4
    assert [stride for stride, _ in recorder.train] == [16] * 4 + [8] * 4 + [4] * 4


def logged(folder: Path) -> list[dict[str, Any]]:
    """What the visualizer's backend got in training, an iteration each."""
    (path,) = folder.glob('*/vis_data/scalars.json')
    lines = map(json.loads, path.read_text().splitlines())
    return [line for line in lines if 'loss' in line]


def test_what_is_logged(tmp_path: Path) -> None:
    def train(name: str, **settings: Any) -> list[dict[str, Any]]:
        hooks = dict(
            checkpoint=dict(type='CheckpointHook', interval=1),
            logger=dict(type='LoggerHook', interval=1),
        )
        runner = _runner(
            tmp_path / name,
            dict(type=HOOK, phases=PHASES),
            *settings.pop('recorders', ()),
            default_hooks=hooks,
            visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
            **settings,
        )
        runner.train()
        return logged(tmp_path / name)

    lines = train('whole')
    arch = MODEL['backbone']['arch']
    macs = {s: count_macs(as_architecture(arch), SIZE, token_stride=s) for s in (16, 8, 4)}
    strides = [16] * 4 + [8] * 4 + [4] * 4
    assert [line['tokens'] for line in lines] == [(SIZE // s) ** 2 for s in strides]
    # Eight images, the backward pass twice the forward one.
    assert [line['step_gmacs'] for line in lines] == [
        pytest.approx(3 * 8 * macs[s] / 1e9) for s in strides
    ]
    for i, line in enumerate(lines, start=1):
        spent = sum(macs[s] for s in strides[:i]) / (i * macs[4])
        assert line['saved_percent'] == pytest.approx(100 * (1 - spent))
    share = schedule_share(as_architecture(arch), [(2, 16), (4, 8), (6, 4)], SIZE)
    for line in lines:
        assert line['saved_percent_of_run'] == pytest.approx(100 * (1 - share))
    assert lines[-1]['saved_percent'] == lines[-1]['saved_percent_of_run']

    with pytest.raises(KeyboardInterrupt):
        train('cut', recorders=[Recorder(kill_at=7)])
    shutil.rmtree(next((tmp_path / 'cut').glob('*/vis_data')))
    names = ('step', 'tokens', 'step_gmacs', 'saved_percent', 'saved_percent_of_run')
    again = [{n: line[n] for n in names} for line in train('cut', resume=True)]
    assert again == [{n: line[n] for n in names} for line in lines[6:]]


@pytest.mark.parametrize(
    'settings',
    [
        dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), accumulative_counts=2)),
        dict(model={**MODEL, 'backbone': {**MODEL['backbone'], 'with_cp': True}}),
        dict(optim_wrapper=dict(type=CPUAutocast, optimizer=dict(type='SGD', lr=0.1))),
    ],
    ids=['accumulation', 'with_cp', 'autocast'],
)
def test_phases_by_hand(tmp_path: Path, settings: dict) -> None:
    """Against a run that is built anew, at another stride, for each phase."""
    settings = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))) | settings
    runner = _runner(tmp_path / 'hook', dict(type=HOOK, phases=PHASES), **settings)
    runner.train()

    state = None
    for phase in PHASES:
        by_hand = _runner(tmp_path / 'hand', resume=state is not None, **settings)
        by_hand.train_loop._max_epochs = phase['end']
        by_hand.train_loop._max_iters = 2 * phase['end']
        by_hand.model.backbone.set_token_stride(phase['stride'])
        by_hand.train()
        state = by_hand.model.state_dict()
    torch.testing.assert_close(state, runner.model.state_dict(), rtol=0, atol=0)


def test_one_compilation_a_phase(tmp_path: Path) -> None:
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> Any:
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    recorder = Recorder()
    runner = _runner(tmp_path, dict(type=HOOK, phases=PHASES), recorder, val_cfg=None,
                     val_dataloader=None, val_evaluator=None)  # fmt: skip
    backbone = _backbone(runner)
    backbone.forward = torch.compile(backbone.forward, backend=backend, dynamic=False)
    runner.train()
    assert [stride for stride, _ in recorder.train] == [16] * 4 + [8] * 4 + [4] * 4
    assert len(compiled) == len(PHASES)


SGD = dict(optimizer=dict(type='SGD', lr=0.1))


def work(rank: int, folder: Path, hook: dict, settings: dict) -> None:
    """One of two processes, each with half of a batch; writes what it saw and its weights."""
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    recorder = Recorder()
    runner = _runner(
        folder / 'two',
        hook,
        recorder,
        launcher='pytorch',
        cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)),
        train_dataloader={**_loader(), 'batch_size': 4},
        optim_wrapper=SGD,
        **settings,
    )
    runner.train()
    torch.save((recorder.train, runner.model.module.state_dict()), folder / f'{rank}.pth')
    torch.distributed.destroy_process_group()


def in_two_processes(folder: Path, hook: dict, **settings: Any) -> tuple[list[int], dict]:
    """The strides that both processes saw, and the weights, which are the same in both."""
    processes = [
        PROCESSES.Process(target=work, args=(rank, folder, hook, settings)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=240)
        assert process.exitcode == 0
    first, second = (torch.load(folder / f'{rank}.pth', weights_only=True) for rank in range(2))
    assert first[0] == second[0]
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=0)
    return [stride for stride, _ in first[0]], first[1]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    hook = dict(type=HOOK, phases=PHASES)
    strides, weights = in_two_processes(tmp_path, hook)
    runner = _runner(tmp_path / 'one', hook, optim_wrapper=SGD)
    runner.train()
    assert strides == [16] * 4 + [8] * 4 + [4] * 4
    torch.testing.assert_close(weights, runner.model.state_dict(), rtol=1e-4, atol=1e-6)


VIT = dict(
    img_size=SIZE,
    patch_size=8,
    arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
)


def test_mmpretrains_vit(tmp_path: Path) -> None:
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='asvit_mm.TokenizedVisionTransformer', **VIT),
        head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=32),
    )
    seen: list[tuple[int, int]] = []

    class Grids(Hook):
        def before_run(self, runner: Runner) -> None:
            runner.model.backbone.layers[0].register_forward_pre_hook(
                lambda module, inputs: seen.append((module.training, inputs[0].shape[1]))
            )

    runner = _runner(tmp_path, dict(type=HOOK, phases='80-140'), Grids(), model=model)
    runner.train()
    # Strides 32, 16 and 8, and the class token.
    train = [tokens for training, tokens in seen if training]
    assert train == [1 + 1] * 4 + [4 + 1] * 2 + [16 + 1] * 6
    assert {tokens for training, tokens in seen if not training} == {17}

    plain = MMPRETRAIN_MODELS.build(
        {**model, 'backbone': dict(type='mmpretrain.VisionTransformer', **VIT)}
    )
    plain.load_state_dict(runner.model.state_dict(), strict=True)
    images = torch.randn(3, 3, SIZE, SIZE)
    with torch.no_grad():
        plain.eval()
        runner.model.eval()
        assert torch.equal(plain(images), runner.model(images))


def test_iterations_as_the_unit_with_validation_inside_a_phase(tmp_path: Path) -> None:
    recorder = Recorder()
    hook = dict(
        type=HOOK,
        phases=[dict(end=4, stride=8, dilation=1), dict(end=6, stride=4)],
        by_epoch=False,
    )
    _runner(
        tmp_path,
        hook,
        recorder,
        train_dataloader=_loader(type='InfiniteSampler'),
        train_cfg=dict(by_epoch=False, max_iters=6, val_interval=2),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False)),
        log_processor=dict(by_epoch=False),
    ).train()
    assert recorder.train == [(8, 1)] * 4 + [(4, 1)] * 2
    assert recorder.val == [4] * 6


@pytest.mark.parametrize(
    ('phases', 'message'),
    [
        ([], 'are neither a list'),
        (dict(end=3, stride=4), 'are neither a list'),
        ('60-90', "no schedule is called '60-90': choose from 40-70, 80-140, 120-210"),
        ([dict(end=3)], r'phase 1 = .* is not dict\(end'),
        ([dict(end=3, stride=4, kernel=2)], 'phase 1'),
        ([dict(end=3, stride=8), dict(end=3, stride=4)], 'phase 2 ends at 3'),
        ([dict(end=0, stride=4)], 'phase 1 ends at 0'),
        ([dict(end=2.5, stride=4)], 'phase 1 ends at 2.5 of the run, past its end'),
        ([dict(end=0.5, stride=4)], 'the last phase ends at 0.5 of the run: give 1.0'),
        ([dict(end=0.5, stride=8), dict(end=0.5, stride=4)], 'phase 2 ends at 0.5'),
        ([dict(end=0.5, stride=8), dict(end=6, stride=4)], 'phase 2 ends at 6: .* shares'),
        ([dict(end=1, stride=8), dict(end=1.0, stride=4)], 'phase 2 ends at 1.0: .* integers'),
        ([dict(end=True, stride=4)], 'phase 1 ends at True'),
        ([dict(end=float('nan'), stride=4)], 'phase 1 ends at nan'),
        ([dict(end=3, stride=0)], 'token stride 0'),
        ([dict(end=3, stride=8, dilation=0)], 'dilation 0'),
    ],
)
def test_malformed_schedules_are_refused_when_built(phases: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ProgressiveTokenizationHook(phases)
    assert '\n' not in str(caught.value)
    with pytest.raises(InputError, match="val_grid = 'half' is not allowed"):
        ProgressiveTokenizationHook(PHASES, val_grid='half')


LENET = dict(
    type='ImageClassifier',
    backbone=dict(type='LeNet5', num_classes=-1),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=120),
)
BY_ITERATION = dict(train_cfg=dict(by_epoch=False, max_iters=6))


@pytest.mark.parametrize(
    ('phases', 'settings', 'message'),
    [
        ([dict(end=5, stride=4)], {}, 'ends at epoch 5 and the run has 6'),
        ([dict(end=6, stride=4)], BY_ITERATION, 'by_epoch=False'),
        ([dict(end=6, stride=6)], {}, 'phase 1: token stride 6 is not a multiple of 4'),
        (
            [dict(end=2, stride=16), dict(end=6, stride=32)],
            {},
            r'phase 2: token stride 32 is too coarse .* \(1, 1, 1, 1 in the stages\) than windows \(2, 1',
        ),
        (PHASES, dict(model=LENET), 'no AsViT backbone'),
    ],
)
def test_schedules_that_do_not_fit_the_run_are_refused_before_it(
    tmp_path: Path, phases: Any, settings: dict, message: str
) -> None:
    recorder = Recorder()
    runner = _runner(tmp_path, dict(type=HOOK, phases=phases), recorder, **settings)
    with pytest.raises(InputError, match=message):
        runner.train()
    assert recorder.train == []


@pytest.mark.slow
def test_a_detector_whose_maps_keep_their_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """mmdet's heads lay their anchors by fixed strides: maps of coarse tokens are enlarged, or refused."""
    write_scenes(tmp_path / 'data' / 'scenes', train=4, val=1, size=64)
    scenes = CONFIGS / 'scenes' / 'mask-rcnn_asvit-seed_fpn_12e_scenes.py'
    config = tmp_path / 'progressive.py'
    text = (
        f"_base_ = {str(scenes)!r}\ncustom_hooks = [dict(type={HOOK!r}, phases='16@1,8@2,4@3')]\n"
    )
    here = Here(monkeypatch, capsys, tmp_path)
    config.write_text(text)

    def arguments(name: str) -> list[Any]:
        more = ['train_cfg.max_epochs=3', 'train_cfg.val_interval=3']
        return [config, '--work-dir', name, *detector_options(name, *more)]

    said = here.refusal('train.py', *arguments('refused_detector'))
    assert 'set model.backbone.keep_map_sizes=True' in said
    config.write_text(text + 'model = dict(backbone=dict(keep_map_sizes=True))\n')
    here.run('train.py', *arguments('progressive_detector'))
    (scalars,) = (tmp_path / 'progressive_detector').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    steps = [line for line in lines if 'loss' in line]
    # The backbone's img_size is 32 pixels; two steps an epoch.
    assert [line['tokens'] for line in steps] == [4, 4, 16, 16, 64, 64]
    assert all(0 < line['loss'] < 20 for line in steps)
    assert 'coco/segm_mAP_50' in lines[-1]
    # Elastic tokens, and the same weights at two strides.
    config.write_text(config.read_text().replace('16@1,8@2,4@3', '16|8|4@3'))
    here.run('train.py', *arguments('elastic_detector'))
    (scalars,) = (tmp_path / 'elastic_detector').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    steps = [line for line in lines if 'loss' in line]
    assert len({line['tokens'] for line in steps}) > 1
    assert all(0 < line['loss'] < 20 for line in steps)
    weights = 'elastic_detector/epoch_3.pth'
    for stride in (4, 16):
        out = f'{stride}.json'
        options = ['--out', out, '--work-dir', 'w', *detector_options(f'tested_{stride}')]
        here.run('test.py', config, weights, '--token-stride', stride, *options)
        assert 'coco/segm_mAP_50' in json.loads((tmp_path / out).read_text())


@pytest.mark.parametrize(
    ('batch', 'images'),
    [
        ({'inputs': torch.zeros(4, 3, 8, 8)}, 4),
        ({'inputs': [torch.zeros(3, 8, 8)] * 3, 'data_samples': []}, 3),
        ((torch.zeros(4, 3, 8, 8), torch.zeros(4)), 4),
        ([torch.zeros(4, 3, 8, 8), torch.zeros(4, 8, 8)], 4),
        ([torch.zeros(3, 8, 8)] * 2, 2),
        # two views of each of four images
        ({'inputs': [torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 6, 6)]}, 8),
        ({'inputs': [[torch.zeros(3, 8, 8)] * 4, [torch.zeros(3, 6, 6)] * 4]}, 8),
        ({'inputs': {'img': torch.zeros(4, 3, 8, 8), 'text': ['a'] * 4}}, 4),
        ({'inputs': {'text': ['a'] * 5, 'img': [torch.zeros(3, 8, 8)] * 5}}, 5),
        ({'pixels': torch.zeros(4, 3, 8, 8)}, 4),
        ((), 1),
        ({}, 1),
        (None, 1),
    ],
)
def test_batches_of_every_form_are_counted(batch: Any, images: int) -> None:
    assert count_images(batch) == images


class Pairs(Bars):
    """The same images as (image, label)."""

    def __getitem__(self, i: int) -> Any:
        return super().__getitem__(i)['inputs'], i % 2


class TakesPairs(BaseModel):
    """A classifier outside of any codebase, which takes (images, labels)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MMPRETRAIN_MODELS.build(MODEL['backbone'])
        self.head = torch.nn.Linear(256, 2)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, mode: str) -> Any:
        logits = self.head(self.backbone(inputs)[0].mean((2, 3)))
        return {'loss': torch.nn.functional.cross_entropy(logits, labels)}


def test_a_model_whose_batches_are_pairs(tmp_path: Path) -> None:
    runner = Runner(
        TakesPairs(),
        str(tmp_path),
        train_dataloader=dict(
            batch_size=8,
            num_workers=0,
            sampler=dict(type='DefaultSampler'),
            dataset=Pairs(),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type=HOOK, phases='8@1,4@2')],
        experiment_name=uuid.uuid4().hex,
    )
    runner.train()
    macs = runner.model.backbone.count_macs(4)
    logged = runner.message_hub.get_scalar('train/step_gmacs').current()
    assert logged == pytest.approx(3 * 8 * macs / 1e9)
