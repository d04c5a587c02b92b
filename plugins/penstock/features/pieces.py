"""The pieces of a backfill: ranges of event times, and what several of them cover together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from penstock.clock import parse_as_of, to_text
from penstock.lakehouse.records import BackfillProgress

DAY = timedelta(days=1)
_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Piece:
    """Event times after `after` (None: all before) up to `until`."""

    after: datetime | None
    until: datetime

    def __str__(self) -> str:
        begin = f"after {to_text(self.after)} " if self.after is not None else ""
        return f"{begin}up to {to_text(self.until)}"


def covered(progress: BackfillProgress | None) -> list[Piece]:
    """The event times that a backfill has computed so far."""
    if progress is None:
        return []
    ranges = progress.covered or ([[progress.start, progress.done_until]] if progress.done_until else [])
    return merged(Piece(parse_as_of(after) if after else None, parse_as_of(str(until))) for after, until in ranges)


def covered_texts(pieces: Iterable[Piece]) -> list[list[str | None]]:
    """The reverse, for the record of a commit."""
    return [[to_text(piece.after) if piece.after else None, to_text(piece.until)] for piece in pieces]


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """The same event times in order; pieces that touch are one."""
    found: list[Piece] = []
    for piece in sorted(pieces, key=_begin):
        if found and _begin(piece) <= found[-1].until:
            found[-1] = Piece(found[-1].after, max(found[-1].until, piece.until))
        else:
            found.append(piece)
    return found


def remaining(whole: Piece, done: Iterable[Piece]) -> list[Piece]:
    """The event times of `whole` that are not done."""
    found, begin = [], _begin(whole)
    for piece in merged(done):
        found.append((begin, min(_begin(piece), whole.until)))
        begin = max(begin, piece.until)
    found.append((begin, whole.until))
    return [Piece(None if first == _EVER else first, last) for first, last in found if first < last]


def _begin(piece: Piece) -> datetime:
    return piece.after or _EVER


def plan_pieces(
    days: Mapping[datetime, int], ranges: Sequence[Piece], most_rows: int, longest: timedelta | None = None
) -> list[Piece]:
    """The ranges in pieces of whole days, gathered as long as they stay within both bounds; a day at least.

    days: the table's rows by the end of their day: event times after the day's beginning, up to its end.
    """
    return [piece for whole in ranges for piece in _cut(days, whole, most_rows, longest)]


def _cut(days: Mapping[datetime, int], whole: Piece, most_rows: int, longest: timedelta | None) -> list[Piece]:
    bounds: list[datetime | None] = [whole.after]
    rows, begin, last = 0, whole.until, whole.until
    for end in sorted(days):
        if end - DAY >= whole.until or (whole.after is not None and end <= whole.after):
            continue
        if rows and (rows + days[end] > most_rows or (longest is not None and end - begin > longest)):
            bounds.append(last)
            rows = 0
        begin = begin if rows else end - DAY
        rows, last = rows + days[end], end
    return [Piece(after, until or whole.until) for after, until in pairwise([*bounds, whole.until])]
