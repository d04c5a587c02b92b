"""Which types a model's own list may make skops trust: estimators and containers, never functions."""

import importlib

_LIBRARIES = ("sklearn", "lightgbm", "xgboost")
_PLAIN = frozenset({
    *(f"builtins.{name}" for name in ("list", "dict", "set", "frozenset", "tuple", "str", "bytes", "bytearray", "int",
                                      "float", "complex", "bool", "slice", "range", "NoneType")),
    "collections.OrderedDict", "collections.defaultdict", "collections.deque", "numpy.dtype", "numpy.ndarray",
    "lightgbm.basic.Booster", "xgboost.core.Booster",
    # parts of fitted estimators that are no estimators themselves
    "sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer.make_column_selector", "sklearn.utils._bunch.Bunch",
    "sklearn.neighbors._kd_tree.KDTree", "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    *(f"sklearn.gaussian_process.kernels.{name}" for name in ("ConstantKernel", "Product", "Sum", "RBF", "WhiteKernel",
                                                              "Matern", "RationalQuadratic", "DotProduct")),
})  # fmt: skip


def known_type(name: object) -> bool:
    """Whether objects of that name hold data only, for all that is known: a name of the list above, or an estimator of
    a library that is installed here.
    """
    if not isinstance(name, str):
        return False
    return name in _PLAIN or _is_estimator(name)


def _is_estimator(name: str) -> bool:
    from sklearn.base import BaseEstimator

    place, _, last = name.rpartition(".")
    if place.partition(".")[0] not in _LIBRARIES:
        return False  # nothing else is imported here
    try:
        found = getattr(importlib.import_module(place), last, None)
    except Exception:  # no such module, or one that cannot be imported here
        return False
    return isinstance(found, type) and issubclass(found, BaseEstimator)
