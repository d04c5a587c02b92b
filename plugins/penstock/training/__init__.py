"""Training: blocks in time, tuning, evaluation, explanation, profile, registration, scoring.

What a project's model code sees of it is `Block`.
"""

import os

from penstock.training.blocks import Block
from penstock.training.errors import ScoringError, TrainingError

# LightGBM's and scikit-learn's OpenMP threads spin while they wait for each other. Where other processes
# use the same cores, two spinning threads took 33 s for a fit that takes 2.4 s when they sleep. Read by
# OpenMP when its library is first loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["Block", "ScoringError", "TrainingError"]
