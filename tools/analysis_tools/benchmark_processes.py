"""A search in one process and in several of torchrun's: seconds of a step, and whether the results are equal.

Each way of running does the same steps, in turn, and every round starts all of them anew. The first step of a
run, which pays for what torch does once, is left out of the times.
"""

import argparse
import statistics
from pathlib import Path

from asvit_mm.errors import InputError, one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--processes', type=int, default=2, help='default: %(default)s')
    parser.add_argument('--steps', type=int, default=6, help='of each run (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=3, help='default: %(default)s')
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--repeat', type=int, default=5, help='networks of a step')
    parser.add_argument('--json', type=Path, help='write the figures here')
    return parser.parse_args()


def run_search(folder: Path, args: argparse.Namespace, processes: int, threads: int) -> list[float]:
    """Run a search; the seconds of its steps but the first.

    Raises:
        InputError: it failed.
    """
    import json
    import os
    import subprocess
    import sys

    launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    words = [sys.executable, *(launcher if processes > 1 else [])]
    words += [
        str(Path(__file__).parents[1] / 'search.py'),
        '--work-dir',
        str(folder),
        '--device',
        'cpu',
    ]
    words += ['--launcher', 'pytorch' if processes > 1 else 'none', '--steps', str(args.steps)]
    words += ['--img-size', str(args.img_size), '--repeat', str(args.repeat)]
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f'{" ".join(words)} failed: {done.stderr[-500:]}')
    lines = (folder / 'timing.jsonl').read_text(encoding='utf-8').splitlines()
    return [json.loads(line)['seconds'] for line in lines[1:]]


def main() -> None:
    """Run, compare and print."""
    args = parse_args()
    with one_line_errors():
        import tempfile

        from asvit_mm.analysis.tables import print_table
        from asvit_mm.utils.files import check_writable, write_figures
        from asvit_mm.utils.timing import device_name

        if min(args.processes, args.steps) < 2 or args.rounds < 1:
            raise InputError('give at least 2 processes, 2 steps and 1 round')
        check_writable(args.json)
        ways = {
            'one process, 1 thread': (1, 1),
            f'one process, {args.processes} threads': (1, args.processes),
            f'{args.processes} processes, 1 thread each': (args.processes, 1),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        traces: dict[str, bytes] = {}
        with tempfile.TemporaryDirectory() as root:
            for number in range(args.rounds):
                for name, way in ways.items():
                    folder = Path(root) / f'{number}-{way[0]}-{way[1]}'
                    seconds[name] += run_search(folder, args, *way)
                    traces[name] = (folder / 'trace.jsonl').read_bytes()
                    print(f'round {number + 1} of {args.rounds}: {name}', flush=True)
        one, _, several = ways
        equal = traces[one] == traces[several]
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        rows = [
            {
                '': name,
                's a step': f'{medians[name]:.2f}',
                'fastest': f'{min(values):.2f}',
                'slowest': f'{max(values):.2f}',
                'times faster': f'{medians[one] / medians[name]:.2f}',
            }
            for name, values in seconds.items()
        ]
        title = f'{args.img_size} x {args.img_size}, {args.repeat} networks a step'
        print_table(f'{title}; {device_name("cpu")}', rows)
        print(f'traces of one process and of {args.processes}: {"equal" if equal else "DIFFERENT"}')
        result = {
            'settings': {**vars(args), 'json': None},
            'device': device_name('cpu'),
            'seconds': seconds,
            'median': medians,
            'equal_traces': equal,
        }
        write_figures(args.json, result)
        if not equal:
            raise SystemExit(1)


if __name__ == '__main__':
    main()
