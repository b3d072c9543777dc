"""README.md of a folder: the model card, with the head of YAML that the Hub reads."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..utils.units import format_count

TASKS = {
    'Image Classification': 'image-classification',
    'Object Detection': 'object-detection',
    'Instance Segmentation': 'image-segmentation',
    'Semantic Segmentation': 'image-segmentation',
}
TAGS = ['asvit_mm', 'timm', 'transformers', 'pytorch_model_hub_mixin', 'mmpretrain']
PAPER = 'arxiv:2202.11921'

CLASSIFIER = """\
```python
import timm
import asvit_mm.timm

model = timm.create_model('local-dir:FOLDER', pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
```

```python
from transformers import AutoModelForImageClassification, AutoImageProcessor
import asvit_mm.timm

model = AutoModelForImageClassification.from_pretrained('FOLDER')
processor = AutoImageProcessor.from_pretrained('FOLDER')
```

```python
from asvit_mm.hub import AsViTForImageClassification

model = AsViTForImageClassification.from_pretrained('FOLDER')
```

```python
import asvit_mm.zoo
from mmpretrain import ImageClassificationInferencer

classify = ImageClassificationInferencer('FOLDER/config.py', 'FOLDER/model.safetensors')
```
"""
BACKBONE = """
timm, transformers and PyTorchModelHubMixin know classifiers only: they open the backbone.

```python
import timm
import asvit_mm.timm

backbone = timm.create_model('local-dir:FOLDER', pretrained=True)
```
"""
SEGMENTOR = f"""\
```python
import asvit_mm.zoo
from mmseg.apis import inference_model, init_model

model = init_model('FOLDER/config.py', 'FOLDER/model.safetensors', device='cpu')
```
{BACKBONE}"""
DETECTOR = f"""\
```python
import asvit_mm.zoo
from mmdet.apis import DetInferencer

detect = DetInferencer('FOLDER/config.py', 'FOLDER/model.safetensors')
```
{BACKBONE}"""

USAGE = {
    'image-classification': CLASSIFIER,
    'object-detection': DETECTOR,
    'image-segmentation': SEGMENTOR,
}


def write_card(
    name: str,
    config: Mapping[str, Any],
    params: int,
    results: Sequence[Mapping[str, Any]],
    task: str,
    *,
    resized: bool,
) -> str:
    """The text of README.md.

    Args:
        name: of the model.
        config: content of config.json.
        params: parameters of the whole model.
        results: as in a metafile; those that were measured with these weights.
        task: the Hub's name of what the model does, a key of :data:`USAGE`.
        resized: whether the results are of images that OpenCV resized.
    """
    classifies = task == 'image-classification'
    data = ModelCardData(
        license='apache-2.0',
        library_name='asvit_mm',
        pipeline_tag=task,
        tags=[task, *TAGS, PAPER],
        model_name=name,
        eval_results=_evaluations(results) or None,
    )
    preprocessing = config['pretrained_cfg']
    channels, height, width = preprocessing['input_size']
    mean, std = (' '.join(f'{255 * v:.6g}' for v in preprocessing[key]) for key in ('mean', 'std'))
    rows = [
        ('Architecture', f'`{config["model_args"]["arch"]}`'.replace('|', r'\|')),
        ('Parameters', f'{params:,} ({format_count(params)})'),
        ('Classes', str(config['num_classes'] or 'see config.py')),
        ('Pixels', f'RGB, (pixel - mean) / std with mean {mean}, std {std}'),
    ]
    if classifies:
        scale = f'{preprocessing["crop_pct"]:.4g}'
        how = f'{preprocessing["crop_mode"]}, crop {scale} of the resized image'
        rows += [
            ('Image', f'{channels} x {height} x {width}'),
            ('Resizing', f'{preprocessing["interpolation"]}, {how}'),
        ]
    rows += [
        (f'{metric}, {result["Dataset"]}', f'{value:g}')
        for result in results
        for metric, value in result['Metrics'].items()
    ]
    if resized and results:
        rows.append(('Measured', "with OpenCV's resizing, from which Pillow's differs a little"))
    table = ''.join(f'| {key} | {value} |\n' for key, value in rows)
    return (
        f'---\n{data.to_yaml()}\n---\n\n# {name}\n\n'
        'A vision transformer of the As-ViT family ([Auto-scaling Vision Transformers without Training]'
        '(https://arxiv.org/abs/2202.11921)), written by asvit_mm, which every loader below needs: '
        "`pip install 'asvit_mm[mminstall]'`.\n\n"
        f'| | |\n|---|---|\n{table}\n'
        '`FOLDER` is the path of this folder; on the Hub it is `hf-hub:OWNER/NAME` for timm and `OWNER/NAME` '
        f'for transformers and AsViTForImageClassification.\n\n{USAGE[task]}'
    )


def _evaluations(results: Sequence[Mapping[str, Any]]) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=TASKS[result['Task']],
            dataset_type=_slug(result['Dataset']),
            dataset_name=result['Dataset'],
            metric_type='accuracy' if 'Accuracy' in metric else _slug(metric),
            metric_name=metric,
            metric_value=value,
        )
        for result in results
        for metric, value in result['Metrics'].items()
    ]


def _slug(text: str) -> str:
    return re.sub(r'\W+', '-', text.lower()).strip('-')
