"""A gradient-boosted regression, and a metric of its own."""

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def train(training, tuning, parameters):
    """Fits on the training block; the tuning block is for the tuner."""
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["park"]), remainder="passthrough"
    )
    chosen = {key: value for key, value in parameters.items() if key in ("max_leaf_nodes", "learning_rate")}
    model = make_pipeline(encode, HistGradientBoostingRegressor(random_state=7, max_iter=60, **chosen))
    return model.fit(training.features, training.label)


def energy_missed(label, prediction):
    """The mean energy that was promised and did not come."""
    return float(np.maximum(np.asarray(prediction) - np.asarray(label), 0).mean())
