"""The model: gradient-boosted trees on the probability that a flight arrives more than 15 minutes late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightgbm

    from penstock.training import Block

MOST_TREES = 400
PATIENCE = 20  # trees without a better log loss on the tuning block
THREADS = 2

# The same rows and parameters give the same trees, on any number of cores.
_DETERMINISTIC = {"deterministic": True, "force_row_wise": True, "num_threads": THREADS, "verbosity": -1}


def train(training: Block, tuning: Block, parameters: dict[str, Any]) -> lightgbm.Booster:
    """A fitted Booster whose `predict` gives the probability of a late arrival.

    Texts arrive as pandas categories, which LightGBM splits on as such; nulls are left to it.
    The tuning block, later in time than the training block, decides how many trees are kept.
    `parameters` are LightGBM's, with `seed`; `num_boost_round` bounds the trees.
    """
    import lightgbm

    chosen = {"objective": "binary", "metric": "binary_logloss", "seed": 7, **parameters, **_DETERMINISTIC}
    most_trees = int(chosen.pop("num_boost_round", MOST_TREES))
    grown = lightgbm.Dataset(training.features, training.label, weight=training.weight, free_raw_data=False)
    held_back = grown.create_valid(tuning.features, tuning.label, weight=tuning.weight)
    return lightgbm.train(
        chosen, grown, num_boost_round=most_trees, valid_sets=[held_back], valid_names=["tuning"],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )  # fmt: skip
