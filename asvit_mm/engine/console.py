"""The Runner of our tools: it can be killed, and its screen shows losses, results and what a user can act on.

MMEngine logs the environment, the config, the order of the hooks and a line for every parameter before the
first loss. All of that still goes to the log file of the work dir.
"""

import importlib
import io
import logging
import re
import warnings
from contextlib import redirect_stdout, suppress
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from .hooks.checkpoint import ResumableCheckpointHook, save_whole

# The beginnings of messages for the file alone: tables and lists, and warnings about calls that the code of
# MMEngine and the codebases makes, which no setting changes.
FILE_ONLY = re.compile(
    r'\s*-+\s*System environment:|Config:\n|Hooks will be executed in the following order|'
    r'paramwise_options -- |Param groups = |Exp name: |'
    r'Distributed training is not used, all SyncBatchNorm|'
    r'"FileClient" will be deprecated|"HardDiskBackend" is the alias|'
    r'The prefix is not set in metric class Dump|'
    r'The checkpoint in .* was saved without|Failed to search registry with scope'
)
# Printed when the OneDL forks are imported without OneDL's own package, which has other data sets.
_PRINTED = re.compile(r'Could not import OneDL.*\n?')


class ConsoleRunner(Runner):
    """MMEngine's Runner with whole checkpoints, whose screen shows less than its log file."""

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Register a hook; :class:`ResumableCheckpointHook` for MMEngine's."""
        kind = hook.get('type') if isinstance(hook, dict) else None
        if kind in ('CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook):
            hook = {**hook, 'type': ResumableCheckpointHook}
        super().register_hook(hook, priority)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint, whole or not at all."""
        save_whole(super().save_checkpoint, out_dir, filename, *args, **kwargs)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The logger; its screen leaves out ``FILE_ONLY``, unless everything is asked for (DEBUG)."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            # Not one of a file, which is a StreamHandler's child.
            if type(handler) is logging.StreamHandler and handler.level > logging.DEBUG:
                handler.addFilter(_for_the_screen)
        # The boxes and masks of cropped objects end at the edge of a picture.
        warnings.filterwarnings('ignore', r'Warning: The \w+ is out of bounds')
        logger.info(f'Environment, config and hooks are in the log file below {self.log_dir}')
        return logger


def import_codebase(scope: str) -> None:
    """Import a codebase's data sets and metrics without what they say of packages that nothing here uses."""
    printed = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(printed):
        warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')
        # What fails here fails again, and is reported, where it is needed.
        with suppress(Exception):
            importlib.import_module(f'{scope}.datasets')
            importlib.import_module(f'{scope}.evaluation')
    print(_PRINTED.sub('', printed.getvalue()), end='')


def _for_the_screen(record: logging.LogRecord) -> bool:
    return FILE_ONLY.match(record.getMessage()) is None
