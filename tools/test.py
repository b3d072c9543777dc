"""Test (evaluate) a checkpoint of any config, classification or detection."""

from asvit_mm.engine.arguments import EvaluateSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(EvaluateSettings, 'asvit_mm.engine.runner:test', __doc__)

if __name__ == '__main__':
    main()
