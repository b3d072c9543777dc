"""The report itself: runs the parts within their time, and writes every row as soon as it is known.

A process of its own measures. Where it dies, or an error leaves its CUDA context unusable, the row that did
it is marked and another process goes on with the next row.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...utils.files import atomic_write_json, atomic_write_text
from ..tables import markdown_table
from .aims import aims
from .settings import CudaReportSettings

# Shares of the whole time; a part that ends early leaves more to the later ones.
SHARES = {'correct': 125, 'fast': 170, 'method': 65, 'training': 120}
BROKEN = 75  # status of a process whose CUDA context is unusable
GRACE = 20.0  # seconds after a row's limit before its process is killed
# Where libraries keep what they compile and download: all of it goes into the report's own folder.
CACHES = (
    *('TORCHINDUCTOR_CACHE_DIR', 'TRITON_CACHE_DIR', 'TORCH_EXTENSIONS_DIR', 'CUDA_CACHE_PATH'),
    *('XDG_CACHE_HOME', 'TORCH_HOME', 'HF_HOME', 'MPLCONFIGDIR', 'TMPDIR', 'PYTHONPYCACHEPREFIX'),
    'HYPOTHESIS_STORAGE_DIRECTORY',
)
HIDDEN = (
    'part',
    'table',
    'name',
    'status',
    'device',
    'torch',
    'seconds',
    'passed',
    'note',
    'limit',
)


class Report:
    """The rows so far, in report.json; ``report.md`` shows them as tables."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / 'report.json'
        self.content: dict[str, Any] = {'rows': []}
        if self.path.exists():
            self.content = json.loads(self.path.read_text())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows, the one that is running last."""
        return self.content['rows']

    def has(self, *place: str) -> bool:
        """Whether there is a row of that part, table and name."""
        return any((row['part'], row['table'], row['name']) == place for row in self.rows)

    def save(self) -> None:
        """Write report.json anew."""
        atomic_write_json(self.path, _finite(self.content))

    def close_running(self, status: str, note: str) -> None:
        """Give a row that a process did not finish its status."""
        for row in self.rows:
            if row['status'] == 'running':
                row.update(status=status, note=note, seconds=time.time() - row.pop('began'))
        self.save()

    def write_tables(self) -> None:
        """Write report.md anew."""
        atomic_write_text(self.folder / 'report.md', as_markdown(self.content))


def run_cuda_report(settings: CudaReportSettings) -> dict[str, Any]:
    """Measure all parts, in processes of their own, and print the tables.

    Returns:
        what report.json holds.

    Raises:
        InputError: a device or data that are not there, or a folder that holds a report.
    """
    settings.check()
    folder = Path(settings.out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    cache = folder / 'cache'
    shutil.rmtree(cache, ignore_errors=True)
    environment = dict(os.environ)
    for name in CACHES:
        environment[name] = str(cache / name.lower())
        Path(environment[name]).mkdir(parents=True)
    package = Path(__file__).parents[3]
    environment |= {
        'CUBLAS_WORKSPACE_CONFIG': ':4096:8',  # deterministic matrix products
        'HF_HUB_OFFLINE': '1',
        'PYTHONPATH': os.pathsep.join([str(package), os.environ.get('PYTHONPATH', '')]),
    }
    report = Report(folder)
    begin = time.time()
    report.content |= {
        'settings': {
            **{name: getattr(settings, name) for name in ('device', 'minutes', 'quick')},
            'parts': list(settings.parts),
        },
        'began': begin,
        'ends': begin + 60 * settings.minutes,
        'deadlines': {},
    }
    report.save()
    words = [sys.executable, '-c', f'from {__name__} import work; work()', str(folder)]
    words += [str(Path(settings.cifar10).absolute())] if settings.cifar10 else []
    try:
        while _supervise(subprocess.Popen(words, env=environment, start_new_session=True), folder):
            pass
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    report = Report(folder)
    report.content |= {'seconds': time.time() - begin, 'aims': aims(report.rows)}
    report.save()
    report.write_tables()
    print((folder / 'report.md').read_text())
    return report.content


def _supervise(process: 'subprocess.Popen[bytes]', folder: Path) -> bool:
    """Wait for a process that measures; whether another has to go on after it."""
    before = len(Report(folder).rows)
    try:
        while process.poll() is None:
            time.sleep(0.2)
            report = Report(folder)
            ends = report.content['ends']
            for row in report.rows[-1:]:
                if row['status'] == 'running':
                    ends = min(ends, row['began'] + row['limit'])
            if time.time() > ends + GRACE:
                _kill_group(process)
    finally:
        _kill_group(process)  # what it started may outlive it
        process.wait()
    if process.returncode == 0:
        return False
    report = Report(folder)
    report.close_running('crashed', f'its process ended with status {process.returncode}')
    return len(report.rows) > before and time.time() < report.content['ends']


def _kill_group(process: 'subprocess.Popen[bytes]') -> None:
    """Kill a process that leads a session, and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def work() -> None:
    """Measure the rows that the report does not have yet; ``sys.argv``: its folder, CIFAR-10 if there is."""
    import torch

    from ...utils.timing import device_name
    from .rows import Context

    report = Report(Path(sys.argv[1]))
    settings = report.content['settings']
    device = settings['device']
    about = {'device': device_name(device), 'torch': str(torch.__version__)}
    report.content |= about
    cifar10 = sys.argv[2] if len(sys.argv) > 2 else None
    context = Context(device, settings['quick'], report.folder / 'cache', cifar10)
    ahead = _compile_ahead(settings)
    for index, part in enumerate(settings['parts']):
        if ahead and part != 'correct':
            # From here on time is measured.
            ahead.kill()
            ahead.wait()
        context.deadline = _deadline(report.content, settings['parts'][index:])
        jobs = importlib.import_module(f'.{part}', __package__).jobs(context)
        for job in jobs:
            if report.has(part, job.table, job.name):
                continue
            row: dict[str, Any] = {'part': part, 'table': job.table, 'name': job.name}
            limit = min(job.limit, context.left())
            if limit <= 0:
                report.rows.append(row | about | {'status': 'not reached', 'seconds': 0.0})
                report.save()
                continue
            began = time.time()
            row |= about | {'status': 'running', 'began': began, 'limit': limit}
            report.rows.append(row)
            report.save()
            row.update(_measured(job, limit))
            row['seconds'] = time.time() - row.pop('began')
            report.save()
            print(f'{part}: {job.name}: {row["status"]} {row.get("note", "")}', flush=True)
            if row['status'] not in ('passed', 'measured') and device == 'cuda':
                _leave_if_broken(report)
            _clean(device)
        report.write_tables()


def _compile_ahead(settings: dict[str, Any]) -> 'subprocess.Popen[bytes] | None':
    """A process that fills the compiler's cache for the part "fast" while "correct" is running."""
    if settings['parts'][:2] != ['correct', 'fast']:
        return None
    # With low priority: it must not keep the checks from the processor.
    code = f'import os; os.nice(15); from {__package__}.fast import precompile; precompile'
    arguments = (settings['device'], settings['quick'])
    return subprocess.Popen([sys.executable, '-c', f'{code}{arguments}'])


def _deadline(content: dict[str, Any], parts: Sequence[str]) -> float:
    """When the first of the parts that are left has to end; stays when another process goes on."""
    deadlines = content['deadlines']
    if parts[0] not in deadlines:
        share = SHARES[parts[0]] / sum(SHARES[part] for part in parts)
        left = content['ends'] - time.time()
        deadlines[parts[0]] = time.time() + share * left
    return deadlines[parts[0]]


def _measured(job: Any, limit: float) -> dict[str, Any]:
    """Columns and status of a job; what goes wrong is a status too."""
    from .rows import Skipped

    began = time.time()
    try:
        with _alarm(limit):
            figures = job.run()
    except Skipped as why:
        return {'status': 'skipped', 'note': str(why)}
    except Exception as error:  # noqa: BLE001 (a row that fails is a result)
        # The compiler wraps the alarm's exception in its own.
        if time.time() - began >= limit:
            return {'status': 'out of time', 'note': f'not done within {limit:.0f} s'}
        traceback.print_exc()
        lines = str(error).strip().splitlines() or ['']
        return {'status': 'error', 'note': f'{type(error).__name__}: {lines[0][:300]}'}
    passed = figures.get('passed')
    status = 'measured' if passed is None else 'passed' if passed else 'failed'
    return {**figures, 'status': status}


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in the block after so many seconds."""

    def ring(*args: Any) -> None:
        raise TimeoutError(f'{seconds:.0f} s are over')

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _leave_if_broken(report: Report) -> None:
    """End this process where an error has left CUDA unusable in it."""
    import torch

    try:
        torch.cuda.synchronize()
        torch.ones(8, device='cuda').sum().item()
    except RuntimeError:
        report.save()
        os._exit(BROKEN)


def _clean(device: str) -> None:
    """Free what the last row left, and forget what was compiled."""
    import gc

    import torch

    torch._dynamo.reset()
    gc.collect()
    if device == 'cuda':
        torch.cuda.empty_cache()


# ---- Tables


def as_markdown(content: dict[str, Any]) -> str:
    """The report as a page: a table for each kind of row."""
    settings = content['settings']
    kind = 'quick rehearsal' if settings['quick'] else 'report'
    rows = content['rows']
    counts = {
        status: sum(r['status'] == status for r in rows) for r in rows for status in [r['status']]
    }
    lines = [
        f'# CUDA {kind}: {content.get("device", settings["device"])}, torch {content.get("torch", "")}',
        '',
        ', '.join(f'{count} {status}' for status, count in counts.items())
        + f'; {content.get("seconds", time.time() - content["began"]):.0f} s.',
    ]
    if settings['device'] == 'cpu':
        lines += [
            '',
            'On a CPU this shows that the report works; no figure says anything about a GPU.',
        ]
    if not settings['quick']:
        rows_of_aims = [{key: _cell(value) for key, value in aim.items()} for aim in aims(rows)]
        lines += ['', '## Aims', '', markdown_table(rows_of_aims)]
    for part, table in dict.fromkeys((row['part'], row['table']) for row in rows):
        members = [row for row in rows if (row['part'], row['table']) == (part, table)]
        keys = list(dict.fromkeys(key for row in members for key in row if key not in HIDDEN))
        notes = ['note'] if any('note' in row for row in members) else []
        cells = [
            {
                table: row['name'],
                'status': row['status'],
                **{key.replace('_', ' '): _cell(row.get(key)) for key in keys},
                's': _cell(row.get('seconds')),
                **{key: str(row.get(key, '')) for key in notes},
            }
            for row in members
        ]
        lines += ['', f'## {part}: {table}', '', markdown_table(cells)]
    return '\n'.join(lines) + '\n'


def _cell(value: Any) -> str:
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.4g}' if abs(value) < 1e4 or abs(value) >= 1e7 else f'{value:.0f}'
    return ', '.join(map(str, value)) if isinstance(value, list) else str(value)


def _finite(value: Any) -> Any:
    """``value`` as JSON has it: numbers that are not finite as words."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float('inf'):
        return str(value)
    return value
