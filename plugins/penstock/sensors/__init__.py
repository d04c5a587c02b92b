"""Sensors for DAGs of one's own. They wait in the triggerer."""
