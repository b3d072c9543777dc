"""Training and testing with MMEngine: configs, the Runner, hooks, layer decay, distributed processes.

Imports nothing, so that a tool's ``-h`` does not wait for torch.
"""
