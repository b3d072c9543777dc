"""Whether the classes of a dataset, of its annotations and of a model's heads agree.

Where they do not, training ends in an index out of bounds (on a GPU in an assertion of a kernel), or labels
are silently shifted or dropped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from ..errors import InputError
from ..utils.files import read_object

# Heads that do not classify into the classes of the dataset.
_OTHER_HEADS = ('rpn_head', 'semantic_head')


def check_classes(model: nn.Module, dataset: Any, loader: str) -> None:
    """Compare the classes of a dataset with those of the heads; more in the heads are only reported.

    Args:
        loader: name of the data loader, for messages.

    Raises:
        InputError: the annotations lack classes of the dataset, or a head has fewer classes.
    """
    for inner in _datasets(dataset):
        check_categories(inner, loader)
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if not classes or isinstance(classes, str):
        return
    for name, module in model.named_modules():
        count = getattr(module, 'num_classes', None)
        # The heads of a cascade are numbered: roi_head.bbox_head.0.
        last = name.rstrip('.0123456789').rpartition('.')[2]
        if type(count) is not int or 'head' not in last or last in _OTHER_HEADS:
            continue
        difference = (
            f'{loader} has {len(classes)} classes ({shown(classes)}), model.{name} has {count}'
        )
        if count < len(classes):
            raise InputError(
                f'{difference}: set model.{name}.num_classes={len(classes)}, or give other data'
            )
        if count > len(classes):
            print_log(f'{difference}: some are never trained', logger='current', level=30)


def check_categories(dataset: Any, loader: str) -> None:
    """Raise an InputError if classes of a COCO dataset are not among the categories of its annotations.

    mmdet numbers the categories that it finds, so all labels after a missing one would be shifted, and a
    dataset without any has no images.
    """
    found, classes = getattr(dataset, 'cat_ids', None), dataset.metainfo.get('classes') or ()
    file = getattr(dataset, 'ann_file', None)
    if found is None or len(found) == len(classes) or not isinstance(file, str):
        return
    categories = read_object(Path(file), 'give COCO annotations', depth=None).get('categories')
    names = [str(category.get('name')) for category in categories or ()]
    missing = [name for name in classes if name not in names]
    raise InputError(
        f'{loader}: {file!r} has the categories {shown(names)} and the dataset the classes {shown(classes)}'
        f'{f", of which {missing[0]!r} is none of these" if missing else ""}: set '
        'dataset.metainfo=dict(classes=(...)) to its categories, and num_classes of the heads to their number'
    )


def shown(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f', ... ({len(names)})' if len(names) > 5 else ''
    return ', '.join(map(str, names[:5])) + more


def _datasets(dataset: Any) -> list[Any]:
    """The datasets in a dataset: those that it wraps, or itself."""
    wrapped = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [inner for one in wrapped if one is not None for inner in _datasets(one)] or [dataset]
