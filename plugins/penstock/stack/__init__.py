"""The local stack: Spark Connect, MLflow and Airflow under one supervisor."""
