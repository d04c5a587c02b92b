"""Names that Penstock gives, or takes, for itself in every project."""

# penstock.lakehouse.system_tables defines them; that layer lies above this one, so a test holds the two equal.
SYSTEM_TABLES = (
    "quarantine", "model_comparisons", "deployments", "monitoring_metrics", "alerts", "retraining_decisions",
    "training_sets", "batch_statistics", "model_origins", "watermarks",
)  # fmt: skip
# <model><suffix> are the tables of a model.
MODEL_TABLE_SUFFIXES = ("_predictions", "_training_set", "_serving_log")

# <table><suffix> keeps the row versions of a feature table that were corrected or removed.
HISTORY_SUFFIX = "_history"

# Columns of a training set and of a table of predictions beside keys, features and kept columns.
TRAINING_SET_COLUMNS = ("prediction_time", "label", "label_known_at")
PREDICTION_COLUMNS = ("prediction_time", "prediction", "model_version", "as_of", "scored_at", "run")

# The built-in metrics by the task that they fit; penstock.training.metrics computes them, a test holds them equal.
CLASSIFICATION_METRICS = ("log_loss", "roc_auc", "average_precision", "brier_score", "accuracy")
REGRESSION_METRICS = ("rmse", "mae", "r2")

# The metrics that training logs beside those of the hold-out block begin with these; no metric of a project's own may,
# since they are no promise, and neither compared nor shown as one.
TUNE_PREFIX, TRIAL_PREFIX, HEURISTIC_PREFIX = "tune_", "trial_", "heuristic_"
INTERVAL_PREFIX, CALIBRATION_PREFIX, THRESHOLD_PREFIX = "interval_", "calibration_", "threshold_"
TRAINING_METRIC_PREFIXES = (
    TUNE_PREFIX, TRIAL_PREFIX, HEURISTIC_PREFIX, INTERVAL_PREFIX, CALIBRATION_PREFIX, THRESHOLD_PREFIX,
)  # fmt: skip

# The built-in compliance checks; penstock.registry.compliance makes them, a test holds them equal. The fixed ones
# block whatever a file says; of the environment's own ones a project may lessen the severity in dev only.
FIXED_COMPLIANCE_CHECKS = ("safe_serialisation", "loads")
ENVIRONMENTS_COMPLIANCE_CHECKS = ("origin",)
COMPLIANCE_CHECKS = (
    "description", "owner_and_limits", "model_card", "required_tags", "origin", "safe_serialisation", "requirements",
    "signature", "size", "personal_data", "features_declared", "features_in_lakehouse", "features_fresh",
    "feature_definitions", "loads", "scores", "input_example", "latency", "own_environment",
)  # fmt: skip

# How a candidate may be compared; penstock.registry.methods has the functions, a test holds them equal.
COMPARISON_METHODS = ("heuristic", "holdout")


def model_tables(model: str) -> list[str]:
    """The names of the tables that belong to a model."""
    return [f"{model}{suffix}" for suffix in MODEL_TABLE_SUFFIXES]
