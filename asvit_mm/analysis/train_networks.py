"""Train networks of the user's choice and peers of the field side by side on an image folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..arch import as_architecture
from ..models.classifier import build_classifier, classifier_config
from ..runs.settings import find_device
from ..utils.files import atomic_write_json
from ..utils.timing import device_name
from .bench_training import read_split
from .flops import count_multiply_adds, count_parameters
from .plain_training import Normalize, PlainRecipe, train_side_by_side
from .settings import TrainNetworksSettings

# Networks of the field with about 40 M multiply-adds at 32 pixels, as mmpretrain builds them.
PEERS: Mapping[str, Mapping[str, Any]] = {
    'resnet': dict(
        backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=17, base_channels=17),
        width=17 * 8,
    ),
    'swin': dict(
        backbone=dict(
            type='SwinTransformer',
            arch=dict(embed_dims=32, depths=[2, 2, 4, 2], num_heads=[2, 4, 8, 16]),
            img_size=32,
            patch_size=2,
            window_size=4,
            pad_small_map=True,
            drop_path_rate=0.0,
        ),
        width=32 * 8,
    ),
}


def network_config(name: str, classes: int, img_size: int) -> dict[str, Any]:
    """The config of a classifier: one of ``PEERS`` with a linear head, or an architecture of ours."""
    if name not in PEERS:
        return classifier_config(as_architecture(name), classes, img_size=img_size)
    peer = PEERS[name]
    head = dict(type='LinearClsHead', num_classes=classes, in_channels=peer['width'])
    return classifier_config('seed', classes) | {'backbone': peer['backbone'], 'head': head}


def run_training(settings: TrainNetworksSettings) -> None:
    """Train all networks of the settings; write a checkpoint each and results.json."""
    device = find_device(settings.device)
    folder = Path(settings.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if device.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    train, test = read_split(settings.data, settings.img_size, device)
    classes, size = int(train.labels.max()) + 1, settings.img_size
    recipe = PlainRecipe(
        epochs=settings.epochs,
        batch=settings.batch,
        lr=1e-3 * settings.batch / 128,
        warmup=0.1 if settings.epochs < 30 else 0.05,
        strong=settings.strong,
    )
    models = [
        build_classifier(network_config(name, classes, size), settings.seed)
        for name in settings.networks
    ]
    image = torch.zeros(1, 3, size, size)
    macs = [count_multiply_adds(model.eval(), image) for model in models]
    seeds = [settings.seed] * len(models)
    trained = train_side_by_side(models, seeds, recipe, train, test)
    normalize = Normalize(train.pixels)
    about = {
        'data': f'{len(train.labels)} training and {len(test.labels)} test images of {classes} classes',
        'recipe': asdict(recipe),
        'mean': normalize.mean.tolist(),
        'std': normalize.std.tolist(),
        'device': device_name(device.type),
        'torch': str(torch.__version__),
        'seed': settings.seed,
    }
    rows = []
    for number, (name, network, count) in enumerate(
        zip(settings.networks, trained, macs, strict=True)
    ):
        file = f'{number}.pth'
        weights = {key: value.cpu() for key, value in network.model.state_dict().items()}
        torch.save({'state_dict': weights, 'meta': {**about, 'network': name}}, folder / file)
        epochs = network.losses.view(settings.epochs, -1).mean(1).tolist()
        params = count_parameters(network.model)
        row = {'network': name, 'params': params, 'macs': count, 'top1': network.top1}
        rows.append({**row, 'seconds': network.seconds, 'file': file, 'epoch_losses': epochs})
        print(json.dumps(row), flush=True)
    atomic_write_json(folder / 'results.json', {**about, 'networks': rows})
