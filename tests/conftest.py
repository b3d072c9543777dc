"""Settings of the whole suite."""

import torch
from hypothesis import HealthCheck, settings

# How long an example takes says something about the machine only: no test is timed.
settings.register_profile('untimed', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('untimed')

# The tests' networks are tiny: a second thread costs more than it gives.
torch.set_num_threads(1)
