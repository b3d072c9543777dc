"""Train what searches found as the networks of docs/studies/bench were trained, and rank it among them.

Resumable after a kill: trainings that have a record are not done again.
"""

from asvit_mm.analysis.settings import OutcomeSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    OutcomeSettings, 'asvit_mm.analysis.bench_training:run_outcome', __doc__
)

if __name__ == '__main__':
    main()
