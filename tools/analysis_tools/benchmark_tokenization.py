"""Does progressive tokenization save the time that it promises? Training steps at each token stride.

Times forward, backward and optimizer of our models at every stride of the published schedules, in turn in
one run, and says how much of the multiply-adds that a schedule saves shows on the clock.
"""

from asvit_mm.analysis.settings import TokenizationSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(
    TokenizationSettings, 'asvit_mm.analysis.benchmark_tokenization:run_tokenization', __doc__
)

if __name__ == '__main__':
    main()
