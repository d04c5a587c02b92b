"""The benchmark's as-of join by Feast with its duckdb store; runs in Feast's own environment.

python feast_join.py FOLDER ENTITIES: prints the seconds of each run as JSON.
"""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, FileSource, RepoConfig
from feast.value_type import ValueType

KEYS = {"carrier_daily": "carrier", "route_daily": "route", "origin_weather": "origin"}
FEATURES = {
    "carrier_daily": ["mean_arr_delay", "share_late", "flights"],
    "route_daily": ["mean_arr_delay", "share_late", "flights"],
    "origin_weather": ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"],
}


def main(folder: Path, entities: Path) -> None:
    """Registers the three tables, joins twice."""
    store = FeatureStore(
        config=RepoConfig(
            project="bench", provider="local", registry=str(folder / "registry.db"),
            offline_store={"type": "duckdb"}, online_store=None, entity_key_serialization_version=3,
        )
    )  # fmt: skip
    views = []
    for table, key in KEYS.items():
        entity = Entity(name=key, join_keys=[key], value_type=ValueType.STRING)
        source = FileSource(name=table, path=str(folder / f"{table}.parquet"), timestamp_field="event_time")
        views.append(FeatureView(name=table, entities=[entity], ttl=timedelta(days=3), source=source))
        store.apply([entity, source, views[-1]])
    rows = pd.read_parquet(entities).rename(columns={"prediction_time": "event_timestamp"})
    features = [f"{table}:{name}" for table, names in FEATURES.items() for name in names]
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        job = store.get_historical_features(entity_df=rows, features=features, full_feature_names=True)
        job.to_df().to_parquet(folder / "feast.parquet")
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
