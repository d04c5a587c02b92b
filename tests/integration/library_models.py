"""One question, answered by five libraries: model code as a project would have it; the test copies this file."""

NUMBERS = ["capacity", "mean_energy", "slots", "wind"]


def with_sklearn(training, tuning, parameters):
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["park"]), (numbers, NUMBERS))
    return make_pipeline(columns, LogisticRegression(**parameters)).fit(training.features, training.label)


def with_lightgbm(training, tuning, parameters, report=lambda step, value: None):
    import lightgbm

    learn = lightgbm.Dataset(training.features, training.label)
    judge = learn.create_valid(tuning.features, tuning.label)
    fixed = {
        "objective": "binary", "metric": "binary_logloss", "seed": 7, "num_threads": 1, "deterministic": True,
        "force_row_wise": True, "verbosity": -1,
    }  # fmt: skip

    def tell(state):
        report(state.iteration, state.evaluation_result_list[0][2])

    return lightgbm.train({**fixed, **parameters}, learn, 30, valid_sets=[judge], callbacks=[tell])


def with_xgboost(training, tuning, parameters):
    import xgboost

    learn = xgboost.DMatrix(training.features, training.label, enable_categorical=True)
    judge = xgboost.DMatrix(tuning.features, tuning.label, enable_categorical=True)
    fixed = {"objective": "binary:logistic", "seed": 7, "nthread": 1, "tree_method": "hist"}
    return xgboost.train(
        {**fixed, **parameters}, learn, 30, evals=[(judge, "tuning")], early_stopping_rounds=5, verbose_eval=False
    )


def with_pytorch(training, tuning, parameters):
    import numpy as np
    import torch

    class Net(torch.nn.Module):
        """The first column is a category, the others are numbers; nulls become the mean."""

        def __init__(self, matrix: np.ndarray, categories: int) -> None:
            super().__init__()
            self.register_buffer("mean", torch.from_numpy(np.nanmean(matrix[:, 1:], axis=0)))
            self.register_buffer("scale", torch.from_numpy(np.nanstd(matrix[:, 1:], axis=0) + 1e-6))
            self.park = torch.nn.Embedding(categories + 1, 2)  # 0 stands for null
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(matrix.shape[1] + 1, 8), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1)
            )

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            park = self.park(torch.nan_to_num(rows[:, 0] + 1, nan=0.0).long())
            numbers = (torch.where(torch.isnan(rows[:, 1:]), self.mean, rows[:, 1:]) - self.mean) / self.scale
            return torch.sigmoid(self.layers(torch.cat([park, numbers], dim=1)))[:, 0]

    torch.set_num_threads(1)
    matrix = training.matrix()
    rows, label = torch.from_numpy(matrix), torch.from_numpy(training.label.astype("float32"))
    model = Net(matrix, training.features["park"].cat.categories.size)
    optimizer = torch.optim.Adam(model.parameters(), lr=parameters["learning_rate"])
    for _ in range(20):
        for batch in torch.randperm(len(rows)).split(256):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy(model(rows[batch]), label[batch]).backward()
            optimizer.step()
    return model


def with_spark(training, tuning, parameters):
    from pyspark.ml import Pipeline
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import Imputer, OneHotEncoder, StringIndexer, VectorAssembler

    filled = [f"{name}_filled" for name in NUMBERS]
    return Pipeline(stages=[
        StringIndexer(inputCol="park", outputCol="park_index", handleInvalid="keep"),
        OneHotEncoder(inputCol="park_index", outputCol="park_vector"),
        Imputer(inputCols=NUMBERS, outputCols=filled, strategy="mean"),
        VectorAssembler(inputCols=["park_vector", *filled], outputCol="vector"),
        LogisticRegression(featuresCol="vector", labelCol="label", **parameters),
    ]).fit(training.spark())  # fmt: skip
