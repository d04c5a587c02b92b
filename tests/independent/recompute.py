"""Recomputes flight_delays' features, training set and predictions from the Delta files: DuckDB and plain MLflow.

Nothing of Penstock is imported here. Prints the greatest differences as JSON.

    python recompute.py LAKEHOUSE FEATURES_AS_OF TRAINING_AS_OF MODEL_NAME
"""

import json
import sys

import duckdb
import mlflow
import numpy as np
import pandas as pd
from deltalake import DeltaTable

DAILY = """
    SELECT {keys}, date_trunc('day', o.known_at) + INTERVAL 1 DAY AS event_time, avg(arr_delay) AS mean_arr_delay,
           avg(CASE WHEN arr_delay > 15 THEN 1.0 ELSE 0.0 END) AS share_late, count(*) AS flights
    FROM flight_outcomes o JOIN flights f USING (carrier, flight, origin, scheduled_departure)
    WHERE o.known_at <= $as_of GROUP BY 1, 2 HAVING max(date_trunc('day', o.known_at) + INTERVAL 1 DAY) <= $as_of
"""
OWNERS = dict.fromkeys(("weather", "planes", "origin_weather", "aircraft"), "aviation")
FEATURES = {
    "carrier_daily": (["carrier", "event_time"], DAILY.format(keys="carrier")),
    "route_daily": (["route", "event_time"], DAILY.format(keys="f.origin || '-' || f.dest AS route")),
    "origin_weather": (
        ["origin", "event_time"],
        "SELECT origin, time_hour + INTERVAL 1 HOUR AS event_time, temp, dewp, humid, wind_speed, precip, pressure, "
        "visib FROM weather WHERE time_hour + INTERVAL 1 HOUR <= $as_of",
    ),
    "aircraft": (
        ["tailnum"],
        "SELECT tailnum, TIMESTAMPTZ '1970-01-01 00:00:00+00' AS event_time, year AS year_built, seats, engines, "
        "manufacturer FROM planes",
    ),
}
JOIN = """
    SELECT {columns}
    FROM {rows} r
    ASOF LEFT JOIN carrier_daily c ON r.carrier = c.carrier AND r.prediction_time >= c.event_time
    ASOF LEFT JOIN route_daily d ON r.route = d.route AND r.prediction_time >= d.event_time
    ASOF LEFT JOIN origin_weather w ON r.origin = w.origin AND r.prediction_time >= w.event_time
    LEFT JOIN aircraft a ON r.tailnum = a.tailnum
"""
KEYS = ["carrier", "flight", "origin", "scheduled_departure"]


def _aged(alias: str, days_or_hours: str, names: dict[str, str]) -> list[str]:
    fresh = f"r.prediction_time - {alias}.event_time <= INTERVAL {days_or_hours}"
    return [f"CASE WHEN {fresh} THEN {alias}.{name} END AS {output}" for name, output in names.items()]


DAILY_NAMES = ("mean_arr_delay", "share_late", "flights")
FEATURE_COLUMNS = [
    "r.sched_hour", "r.weekday", "r.distance",
    *_aged("c", "3 DAY", {name: f"carrier_{name}" for name in DAILY_NAMES}),
    *_aged("d", "3 DAY", {name: f"route_{name}" for name in DAILY_NAMES}),
    *_aged("w", "6 HOUR", {n: n for n in ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")}),
    "a.year_built", "a.seats", "a.engines", "a.manufacturer",
    "CASE WHEN r.sched_hour < 6 THEN 'night' WHEN r.sched_hour < 12 THEN 'morning' "
    "WHEN r.sched_hour < 18 THEN 'afternoon' ELSE 'evening' END AS part_of_day",
    "CASE WHEN r.distance >= 2000 THEN 3 WHEN r.distance >= 1000 THEN 2 WHEN r.distance >= 500 THEN 1 ELSE 0 END "
    "AS distance_bucket",
]  # fmt: skip


def difference(found: pd.DataFrame, expected: pd.DataFrame, keys: list[str]) -> float:
    """The greatest difference of any cell; infinite where rows, nulls or texts differ."""
    if len(found) != len(expected):
        return float("inf")
    left = found.sort_values(keys, ignore_index=True)[list(expected.columns)]
    right = expected.sort_values(keys, ignore_index=True)
    worst = 0.0
    for name in right.columns:
        a, b = left[name], right[name]
        if not (a.isna() == b.isna()).all():
            return float("inf")
        if pd.api.types.is_numeric_dtype(b):
            worst = max(worst, float(np.nanmax(np.abs(a.astype(float) - b.astype(float)), initial=0)))
        elif not (a.dropna().astype(str) == b.dropna().astype(str)).all():
            return float("inf")
    return worst


def main(lakehouse: str, features_as_of: str, training_as_of: str, model_name: str) -> None:
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")

    def delta(name: str) -> pd.DataFrame:
        return DeltaTable(f"{lakehouse}/{OWNERS.get(name, 'flight_delays')}/{name}").to_pyarrow_table().to_pandas()

    for name in ("flights", "flight_outcomes", "weather", "planes"):
        db.register(name, delta(name))
    report: dict[str, float] = {}
    for name, (keys, query) in FEATURES.items():
        db.execute(f"CREATE TABLE {name} AS {query}", {"as_of": features_as_of} if "$as_of" in query else {})
        report[name] = difference(delta(name), db.table(name).df(), keys)

    label = "CASE WHEN o.arr_delay > 15 THEN 1.0 ELSE 0.0 END AS label, o.known_at AS label_known_at"
    db.execute(
        f"CREATE TABLE labelled AS SELECT f.*, f.origin || '-' || f.dest AS route, "
        f"f.scheduled_departure AS prediction_time, {label} "
        "FROM flights f JOIN flight_outcomes o USING (carrier, flight, origin, scheduled_departure) "
        f"WHERE o.known_at <= '{training_as_of}' AND f.scheduled_departure <= '{training_as_of}'"
    )
    columns = [f"r.{name}" for name in (*KEYS, "prediction_time", "label", "label_known_at")] + FEATURE_COLUMNS
    expected = db.execute(JOIN.format(columns=", ".join(columns), rows="labelled")).df()
    report["training_set"] = difference(delta("late_arrival_training_set"), expected, KEYS)

    predictions = delta("late_arrival_predictions")
    begin, end = predictions["prediction_time"].min(), features_as_of
    db.execute(
        "CREATE TABLE entities AS SELECT *, origin || '-' || dest AS route, scheduled_departure AS prediction_time "
        f"FROM flights WHERE scheduled_departure BETWEEN '{begin}' AND '{end}' AND known_at <= '{end}'"
    )
    columns = [f"r.{name}" for name in (*KEYS, "prediction_time")] + FEATURE_COLUMNS
    rows = db.execute(JOIN.format(columns=", ".join(columns), rows="entities")).df()
    rows["prediction"] = predict(model_name, rows)
    report["predictions"] = difference(predictions, rows[[*KEYS, "prediction"]], KEYS)
    report["rows"] = float(len(predictions))
    print(json.dumps(report))


def predict(model_name: str, rows: pd.DataFrame) -> np.ndarray:
    """Scores with the model's own library, columns as its feature_spec.json says."""
    folder = mlflow.artifacts.download_artifacts(f"models:/{model_name}@production")
    with open(f"{folder}/extra_files/feature_spec.json") as file:
        spec = json.load(file)
    booster = mlflow.lightgbm.load_model(folder)
    frame = pd.DataFrame(index=rows.index)
    for feature in spec["features"]:
        values = rows[feature["name"]]
        categories = feature["categories"]
        frame[feature["name"]] = (
            pd.Categorical(values, categories=categories) if categories is not None else values.astype("float64")
        )
    return booster.predict(frame)


if __name__ == "__main__":
    main(*sys.argv[1:])
