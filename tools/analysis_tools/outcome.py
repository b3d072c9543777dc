"""Train what searches found as the networks of docs/studies/bench were trained, and rank it among them.

Resumable after a kill: trainings that have a record are not done again.
"""

from asvit_mm.analysis.settings import OutcomeSettings
from asvit_mm.errors import one_line_errors
from asvit_mm.utils.command_line import parse


def parse_args() -> OutcomeSettings:
    """Read the command line."""
    return parse(OutcomeSettings, __doc__)


def main() -> None:
    """Parse, then hand over to the package."""
    with one_line_errors():
        settings = parse_args()
        from asvit_mm.analysis.bench_training import run_outcome

        run_outcome(settings)


if __name__ == '__main__':
    main()
