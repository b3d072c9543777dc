"""Search and scaling as whole runs: settings in, a folder with results, configs and pictures out.

Nothing is imported here, so that a tool's ``-h`` does not wait for torch.
"""
