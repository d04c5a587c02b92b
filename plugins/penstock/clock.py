"""The explicit clock: every pipeline is a function of its project and as_of, a UTC moment."""

from datetime import UTC, datetime
from pathlib import Path

from penstock.errors import ClockError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def parse_as_of(value: str | datetime) -> datetime:
    """A timestamp as a UTC datetime; a text without a zone is read as UTC.

    Raises ClockError for a text that is no ISO 8601 timestamp, and for a moment that has not come yet.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError as error:
            raise ClockError(
                f"as_of {value!r} is no timestamp: write ISO 8601, such as 2013-05-01 or 2013-05-01T00:00:00Z"
            ) from error
    moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if moment > now():
        raise ClockError(f"as_of {to_text(moment)} lies in the future: nothing is known then yet")
    return moment


def to_text(moment: datetime) -> str:
    """A UTC moment as `2013-05-01T00:00:00Z` (with microseconds where it has some)."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970, as Delta counts them."""
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def read_replay_clock(path: str | Path | None) -> datetime | None:
    """The as_of that stands for now while history is replayed; None where there is no such file."""
    if path is None or not Path(path).is_file():
        return None
    return parse_as_of(Path(path).read_text(encoding="utf-8"))


def write_replay_clock(path: str | Path, as_of: datetime) -> None:
    """Moves the replay clock; readers see the old moment or the new one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(to_text(as_of), encoding="utf-8")
    partial.replace(target)
