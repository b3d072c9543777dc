"""What progressive tokenization saves: each phase's tokens, share of the run and cost of a step.

Counts, trains nothing: the phases of the config, and the three published schedules scaled to its run.
"""

from asvit_mm.analysis.settings import CostSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(CostSettings, 'asvit_mm.analysis.schedule_cost:run_costs', __doc__)

if __name__ == '__main__':
    main()
