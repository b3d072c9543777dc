"""Running a tool: as users do, in a process and a folder of its own, or here, which is quicker."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from PIL import Image

TOOLS = Path(__file__).parents[2] / 'tools'
TINY = ['--repeat', '1', '--img-size', '32', '--batch-size', '4', '--device', 'cpu']
# Processes that begin with the libraries imported, which takes longer than what most of them do.
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload(['mmdet.apis', 'mmpretrain.apis', 'matplotlib.pyplot'])


def tool(name, *args, cwd):
    """Run a tool; one thread, since tiny networks on busy cores are slower with more."""
    return subprocess.run(
        [sys.executable, TOOLS / name, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )


def forked(words, folder):
    """Run ``python WORDS`` in a folder, in a process with the libraries imported: status and output."""
    process = PROCESSES.Process(target=_run, args=(words, folder))
    process.start()
    process.join(300)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode, (folder / 'output.txt').read_text()


def _run(words, folder):
    os.chdir(folder)
    os.environ['OMP_NUM_THREADS'] = '1'
    torch.set_num_threads(1)
    output = os.open('output.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    if words[0] == '-m':
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name='__main__')


def torchrun(name, *args, cwd):
    """Start a tool in two processes of torchrun, one thread each."""
    return subprocess.Popen(
        [
            *(sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--standalone'),
            *(TOOLS / name, '--launcher', 'pytorch', *map(str, args)),
        ],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )


def ended(process):
    """Status, stdout and stderr of a process that was started."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def write_images(folder):
    """Two classes, bright above and bright below."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 6), ('val', 3)):
        for name, rows in (('above', slice(0, 8)), ('below', slice(8, 16))):
            (folder / 'images' / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (16, 16, 3), dtype=np.uint8)
                pixels[rows] += 100
                Image.fromarray(pixels).save(folder / 'images' / split / name / f'{i}.png')


class Here:
    """Runs a tool's script in this process and in the test's folder."""

    def __init__(self, monkeypatch, capsys, folder):
        monkeypatch.chdir(folder)
        # What a Runner leaves in its process goes with the test: another that starts in the same second would
        # get its logger, whose stream is closed.
        for kept in (DefaultScope, MMLogger, MessageHub):
            monkeypatch.setattr(kept, '_instance_dict', kept._instance_dict.copy())
        # What the tools set for the libraries of their process.
        monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
        self.monkeypatch, self.capsys, self.folder = monkeypatch, capsys, folder

    def run(self, name, *args):
        """What it prints; fails where it exits otherwise than by reaching its end."""
        self.monkeypatch.setattr(sys, 'argv', [str(TOOLS / name), *map(str, args)])
        runpy.run_path(str(TOOLS / name), run_name='__main__')
        return self.capsys.readouterr().out

    def refusal(self, name, *args):
        """The one line of a run that is refused."""
        with pytest.raises(SystemExit) as exit_:
            self.run(name, *args)
        lines = self.capsys.readouterr().err.strip().splitlines()
        assert exit_.value.code == 2
        assert len(lines) == 1, lines
        assert lines[0].startswith('error: ')
        return lines[0]
