"""What users of mmdet do with our detection configs: pictures, inference, frozen stages."""

import json
import pickle
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from asvit_mm.data.scenes import CLASSES

from .small_detector import SIZE, VAL, options, place
from .test_coco_configs import SCENES
from .test_tools.runs import TOOLS

FROZEN = tuple(
    f'backbone.{part}'
    for part in ('patch_embed.', 'pos_embed', 'stages.0.', 'stages.1.', 'norm0.', 'norm1.')
)
# Nothing but mmdet's own interface, as its users write it.
INFERENCE = """
import json
import sys

from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.structures.mask import encode_mask_results

config, weights, image = sys.argv[1:]
inferencer = DetInferencer(model=config, weights=weights, device='cpu')
(first,) = inferencer(image, out_dir='out', no_save_pred=False)['predictions']
model = init_detector(config, weights, device='cpu')
found = inference_detector(model, image).pred_instances
second = {name: found[name].tolist() for name in ('labels', 'scores', 'bboxes')}
second['masks'] = encode_mask_results(found.masks.numpy())
for mask in second['masks']:
    mask['counts'] = mask['counts'].decode()
with open('found.json', 'w') as file:
    json.dump([first, second, model.dataset_meta['classes']], file)
"""


@pytest.fixture(scope='module')
def checkpoint(scenes, tmp_path_factory):
    """Of the scenes' config after two steps."""
    folder = tmp_path_factory.mktemp('checkpoint')
    place(scenes, folder)
    args = [SCENES, '--work-dir', 'run', '--no-validate', *options('checkpoint')]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())
        patch.chdir(folder)
        patch.setattr(sys, 'argv', [str(TOOLS / 'train.py'), *map(str, args)])
        runpy.run_path(str(TOOLS / 'train.py'), run_name='__main__')
    return folder / 'run/epoch_1.pth'


def pixels(path):
    return np.asarray(Image.open(path).convert('RGB')).astype(int)


def changed(picture, image, where):
    """The share of an image's pixels at a mask that a picture of it shows otherwise."""
    return (picture != image).any(-1)[where].mean()


@pytest.mark.slow
def test_pictures_metrics_and_predictions(here, scenes, checkpoint):
    """A picture has two halves: the boxes and masks of the ground truth, and of the predictions."""
    place(scenes, here.folder)
    args = [SCENES, checkpoint, '--work-dir', 'tested']
    thresholds = {'all': 0.0, 'none': 1.0}
    for folder, out in (('all', 'metrics.json'), ('none', 'predictions.pkl')):
        more = [
            f'default_hooks.visualization.score_thr={thresholds[folder]}',
            # Pictures and ground truth are of the images as they are, whatever the model is given.
            'test_dataloader.dataset.pipeline.1.scale=(96,96)',
        ]
        files = ['--show-dir', f'pictures/{folder}', '--out', out]
        here.run('test.py', *args, *files, *options(f'pictures-{folder}', *more))
    metrics = json.loads((here.folder / 'metrics.json').read_text())
    assert {'coco/bbox_mAP_50', 'coco/segm_mAP_50'} < set(metrics)
    predictions = pickle.loads((here.folder / 'predictions.pkl').read_bytes())

    truth = COCO(scenes / 'annotations/instances_val2017.json')
    names = sorted(path.name for path in (scenes / 'val2017').iterdir())
    assert len(predictions) == len(names) == VAL
    for folder in thresholds:
        written = sorted(path.name for path in (here.folder / 'pictures' / folder).iterdir())
        assert written == names
    for number, name in enumerate(names):
        image = pixels(scenes / 'val2017' / name)
        both, only_truth = (pixels(here.folder / 'pictures' / f / name) for f in thresholds)
        assert both.shape == only_truth.shape == (SIZE, 2 * SIZE, 3)
        left, right = both[:, :SIZE], both[:, SIZE:]
        assert np.array_equal(only_truth[:, SIZE:], image)
        for one in truth.imgToAnns[number]:
            assert changed(left, image, truth.annToMask(one) == 1) > 0.9
        assert predictions[number]['img_id'] == number
        found = predictions[number]['pred_instances']
        assert len(found['bboxes']) == len(found['masks']) == 5  # test_cfg's max_per_img
        masks = np.any([coco_mask.decode(mask) for mask in found['masks']], axis=0)
        assert changed(right, image, masks) > 0.9


@pytest.mark.slow
def test_mmdets_own_inference_finds_the_backbone(tmp_path, scenes, checkpoint):
    (tmp_path / 'infer.py').write_text(INFERENCE)
    image = scenes / 'val2017/000001.png'
    done = subprocess.run(
        [sys.executable, 'infer.py', SCENES, checkpoint, image],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second, classes = json.loads((tmp_path / 'found.json').read_text())
    assert classes == list(CLASSES)
    assert len(first['scores']) > 1
    assert first['labels'] == second['labels']
    for name in ('scores', 'bboxes'):
        np.testing.assert_allclose(first[name], second[name], rtol=1e-5)
    assert first['masks'] == second['masks']
    drawn = pixels(tmp_path / 'out/vis/000001.png')
    assert drawn.shape == (SIZE, SIZE, 3)
    saved = json.loads((tmp_path / 'out/preds/000001.json').read_text())
    assert saved['scores'] == first['scores']


@pytest.mark.slow
def test_frozen_stages_stay_and_the_others_learn(here, scenes, checkpoint):
    """At the config's own learning rate, since nobody asked to scale it by the batch."""
    place(scenes, here.folder)
    more = [f'load_from={checkpoint}', 'model.backbone.frozen_stages=2']
    more.append('param_scheduler.0.start_factor=1.0')
    args = [SCENES, '--work-dir', 'run', '--no-validate', *options('frozen', *more)]
    here.run('train.py', *args)
    (scalars,) = (here.folder / 'run').glob('*/vis_data/scalars.json')
    rate = json.loads(scalars.read_text().splitlines()[0])['lr']
    assert rate == pytest.approx(Config.fromfile(SCENES).optim_wrapper.optimizer.lr)
    before, after = (
        torch.load(path, weights_only=False)['state_dict']
        for path in (checkpoint, here.folder / 'run/epoch_1.pth')
    )
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith(FROZEN)}
