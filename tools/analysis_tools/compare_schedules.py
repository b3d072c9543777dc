"""Compare schedules of progressive tokenization: accuracy, multiply-adds and time, from several seeds.

Trains one architecture without a schedule and with each, on the same recipe. Resumable after a kill
(--resume). Over two processes:
torchrun --nproc_per_node=2 tools/analysis_tools/compare_schedules.py --launcher pytorch ...
"""

from asvit_mm.analysis.settings import SchedulesSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    SchedulesSettings, 'asvit_mm.analysis.compare_schedules:run_schedules', __doc__
)

if __name__ == '__main__':
    main()
