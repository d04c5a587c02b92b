"""Triggers: what Airflow's triggerer waits for, so that no worker is held."""
