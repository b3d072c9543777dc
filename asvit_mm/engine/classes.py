"""Whether the classes of a dataset, of its annotations and of a model's heads agree.

Where they do not, training ends in an index out of bounds (on a GPU in an assertion of a kernel), or labels
are silently shifted or dropped.
"""

from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any

from mmengine.logging import print_log
from torch import nn

from ..errors import InputError

# Heads that do not classify into the classes of the dataset.
_OTHER_HEADS = ('rpn_head', 'semantic_head')


def check_classes(model: nn.Module, dataset: Any, loader: str) -> None:
    """Compare the classes of a dataset with those of the heads; more in the heads are only reported.

    Args:
        loader: name of the data loader, for messages.

    Raises:
        InputError: a head has fewer classes.
    """
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


def check_categories_when_read() -> None:
    """Make mmdet's COCO datasets in this process refuse annotations that do not fit their classes.

    mmdet numbers the categories in the order of the annotations and takes their names from
    ``metainfo['classes']``: after a missing class, or in another order, objects silently get other names.
    """
    from mmdet.datasets import CocoDataset

    whole = CocoDataset.load_data_list
    if hasattr(whole, '__wrapped__'):
        return

    @wraps(whole)
    def load_data_list(dataset: Any) -> Any:
        api = dataset.COCOAPI

        def read(path: str) -> Any:
            coco = api(path)
            _check_categories(coco.dataset.get('categories') or (), dataset)
            return coco

        # Where mmdet has the annotations in memory, and only there.
        dataset.COCOAPI = read
        try:
            return whole(dataset)
        finally:
            del dataset.COCOAPI

    CocoDataset.load_data_list = load_data_list


def _check_categories(categories: Sequence[Mapping[str, Any]], dataset: Any) -> None:
    classes = dataset.metainfo['classes']
    classes = [classes] if isinstance(classes, str) else list(classes)
    names = [str(category.get('name')) for category in categories]
    known = set(classes)
    found = [name for name in names if name in known]
    if found == classes:
        return
    wrong = next((f'{name!r} is none of these' for name in classes if name not in names), '')
    if not wrong and sorted(found) == sorted(classes):
        wrong = 'they are in another order, and mmdet would mistake one class for another'
    raise InputError(
        f'{dataset.ann_file!r} has the categories {shown(names)} and the dataset the classes '
        f'{shown(classes)}: {wrong or "one is there twice"}: set dataset.metainfo=dict(classes=(...)) to its '
        'categories in their order, and num_classes of the heads to their number'
    )


def shown(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f', ... ({len(names)})' if len(names) > 5 else ''
    return ', '.join(map(str, names[:5])) + more
