"""Airflow hooks: they resolve connections and pass settings in."""
