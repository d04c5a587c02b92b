"""A transformation in Python: the wind, usable once it is known."""


def transform(inputs):
    """DataFrames by input name, up to as_of; answers the feature table's rows."""
    conditions = inputs["conditions"]
    return conditions.selectExpr("park", "known_at AS event_time", "wind")
