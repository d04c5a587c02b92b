"""What the server of forked.py imports, whose forks tests run and kill: what a command would import by itself."""

import os

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"  # the server itself never opens a channel

import deltalake  # noqa: F401
import duckdb  # noqa: F401
import great_expectations.execution_engine  # noqa: F401
import lightgbm  # noqa: F401
import matplotlib.figure  # noqa: F401
import mlflow.lightgbm
import mlflow.pyfunc  # noqa: F401
import optuna  # noqa: F401
import pandas as pd  # noqa: F401
import pyspark.sql.connect.session  # noqa: F401
import scipy.stats  # noqa: F401
import sklearn.metrics  # noqa: F401
import sqlglot  # noqa: F401

import penstock.cli  # noqa: F401
