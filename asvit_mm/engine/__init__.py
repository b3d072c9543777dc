"""Training and testing through MMEngine: configs, the Runner, hooks, layer-wise decay, processes.

Nothing is imported here, so that a tool's ``-h`` does not wait for torch.
"""
