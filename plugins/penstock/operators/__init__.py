"""Airflow operators: thin, each calls one function of the library."""
