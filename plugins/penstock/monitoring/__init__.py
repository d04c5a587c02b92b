"""Watches a model in production: drift, quality, infrastructure, alerts, and whether to train again."""
