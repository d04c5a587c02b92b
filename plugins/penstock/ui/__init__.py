"""The pages inside Airflow: server-rendered, read-only, behind Airflow's own login."""
