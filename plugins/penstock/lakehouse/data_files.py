"""The Parquet files of a Delta table at a version, chosen by the log's statistics and read by this process.

Reading some files here takes a tenth of a second where the first query of a Spark session on a table takes more than
one. It is for what is known to be small before anything is read: by the files' sizes in the log.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from deltalake import DeltaTable
    from pyarrow.fs import FileSystem

_THREADS = 4  # readers of files; they compute in Arrow, outside the interpreter's lock


@dataclass(frozen=True)
class DataFiles:
    """The files of a table at a version; `files` has a row for each: path, size_bytes, min.<column>, max.<column>.

    spark_fields: the columns in the JSON form of Spark's schemas.
    """

    schema: "pa.Schema"
    spark_fields: list[dict[str, Any]]
    system: "FileSystem"
    folder: str
    files: "pa.Table"

    @classmethod
    def of(cls, path: str, table: "DeltaTable") -> "DataFiles | None":
        """The table's files; None where they take more than Parquet: partitions, renamed columns, deletion vectors."""
        import pyarrow as pa

        from penstock.lakehouse.maintenance import open_files

        files = pa.table(table.get_add_actions(flatten=True))
        if not _is_plain(table) or any("%" in name or ":" in name for name in files["path"].to_pylist()):
            return None
        system, folder = open_files(path)
        delta = table.schema()
        return cls(pa.schema(delta.to_arrow()), json.loads(delta.to_json())["fields"], system, folder, files)

    def every(self) -> "np.ndarray":
        """The choice of all files."""
        import numpy as np

        return np.ones(self.files.num_rows, dtype=bool)

    def bounds(self, column: str) -> "tuple[pa.Array, pa.Array] | None":
        """Each file's least and greatest value of a column, null where unknown; None where the log has none.

        Those of timestamps may be cut to milliseconds, as Spark does.
        """
        names = (f"min.{column}", f"max.{column}")
        if any(name not in self.files.column_names for name in names):
            return None
        least, greatest = (self.files[name].combine_chunks().cast(self.schema.field(column).type) for name in names)
        return least, greatest

    def may_have_nulls(self, column: str) -> "np.ndarray":
        """Which files may have rows without a value in a column."""
        import numpy as np

        name = f"null_count.{column}"
        if name not in self.files.column_names:
            return self.every()
        return np.array([count != 0 for count in self.files[name].to_pylist()], dtype=bool)

    def size(self, chosen: "np.ndarray") -> int:
        """The bytes of the chosen files."""
        import numpy as np

        return int(np.asarray(self.files["size_bytes"].to_numpy())[chosen].sum())

    def read(
        self, columns: Sequence[str], chosen: "np.ndarray", keep: Callable[["pa.Table"], "pa.Table"]
    ) -> "pa.Table":  # fmt: skip
        """What `keep` leaves of the rows of the chosen files, a file at a time."""
        import pyarrow as pa
        from pyarrow.dataset import ParquetFileFormat, ParquetReadOptions

        # Spark's older form of timestamps would overflow as nanoseconds.
        form = ParquetFileFormat(read_options=ParquetReadOptions(coerce_int96_timestamp_unit="us"))
        wanted = pa.schema([self.schema.field(name) for name in columns])

        def read_one(name: str) -> "pa.Table":
            fragment = form.make_fragment(f"{self.folder}/{name}", filesystem=self.system)
            return keep(fragment.to_table(schema=self.schema, columns=list(columns), use_threads=False))

        names = self.files["path"].filter(pa.array(chosen)).to_pylist()
        with ThreadPoolExecutor(_THREADS) as pool:
            return pa.concat_tables([keep(wanted.empty_table()), *pool.map(read_one, names)])


def read_changes(table: "DeltaTable", since: int, columns: Sequence[str], most: int) -> "pa.Table | None":
    """Rows that commits after version `since`, up to the table's, inserted, updated (both images) or deleted.

    None where they are more than `most`, or where the table or its change data feed cannot be read here.
    """
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    if not _is_plain(table):
        return None
    wanted = pa.schema([pa.schema(table.schema().to_arrow()).field(name) for name in columns])
    found: list[pa.Table] = []
    try:
        reader = pa.RecordBatchReader.from_stream(
            table.load_cdf(starting_version=since + 1, ending_version=table.version(), columns=list(columns))
        )
        for batch in reader:
            found.append(pa.Table.from_batches([batch]).select(list(columns)).cast(wanted))
            if sum(map(len, found)) > most:
                return None
    except (DeltaError, OSError, ValueError, pa.ArrowException):
        return None  # whether it is gone, and why, Spark says
    return pa.concat_tables([wanted.empty_table(), *found])


def _is_plain(table: "DeltaTable") -> bool:
    protocol, about = table.protocol(), table.metadata()
    features = set(protocol.reader_features or [])
    return (
        protocol.min_reader_version <= 3
        and features <= {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
        and about.configuration.get("delta.columnMapping.mode", "none") == "none"
        and not about.partition_columns
    )
