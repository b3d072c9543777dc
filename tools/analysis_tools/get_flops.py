"""Count parameters and multiply-adds of a config's model, module by module, attention included."""

from asvit_mm.analysis.settings import FlopsSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(FlopsSettings, 'asvit_mm.analysis.flops:run_flops', __doc__)

if __name__ == '__main__':
    main()
