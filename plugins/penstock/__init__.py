"""Penstock: production MLOps as Apache Airflow DAGs whose operators wrap MLflow and Delta Lake."""

__version__ = "0.1.0"
