"""Export the model of a config to ONNX or torch.export, check the file against eager torch, and time both."""

from asvit_mm.export.settings import ExportSettings
from asvit_mm.utils.command_line import make_tool

parse_args, main = make_tool(ExportSettings, 'asvit_mm.export.export:run_export', __doc__)

if __name__ == '__main__':
    main()
