"""The feature store: landing, refresh, point-in-time training sets."""
