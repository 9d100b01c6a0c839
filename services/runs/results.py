"""The results of a run as one table, a row for each ticker and step: CSV, or Parquet where pyarrow is installed."""

import csv
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime

from errors import ArtifactNotFound, ParquetUnavailable
from schemas.run import ResultRow, TableFormat, TickerResult
from services.runs.pieces import TABLES
from services.runs.runs import Runs, RunView

Cell = str | int | float | bool | date | None
Read = Callable[[TickerResult, ResultRow], Cell]

log = logging.getLogger(__name__)


def table(runs: Runs, run_id: str, format_: TableFormat, now: datetime) -> bytes:
    """The results of the tickers that have ended; a ticker without rows has one, with its state and its error.

    Raises:
        RunNotFound: there is no such run.
        ParquetUnavailable: this installation cannot write Parquet, and the run has not ended.
    """
    if format_ == "parquet" and not _has_pyarrow():
        return _stored_parquet(runs, run_id, now)
    view = runs.view(run_id, now)
    return _parquet(view) if format_ == "parquet" else _csv(view)


def store_table(runs: Runs, run_id: str, now: datetime) -> None:
    """Store the table of a run that has ended: a later round replaces it."""
    view = runs.view(run_id, now)
    runs.store.put(_key(run_id, "csv"), _csv(view))
    if _has_pyarrow():
        runs.store.put(_key(run_id, "parquet"), _parquet(view))


def _stored_parquet(runs: Runs, run_id: str, now: datetime) -> bytes:
    if runs.status(run_id, now).ended_at is not None:
        try:
            return runs.store.get(_key(run_id, "parquet"))
        except ArtifactNotFound:
            pass
    raise ParquetUnavailable("this installation has no pyarrow to write Parquet with; ask for CSV")


def _key(run_id: str, format_: TableFormat) -> str:
    return f"{TABLES}{run_id}.{format_}"


def _csv(view: RunView) -> bytes:
    columns = _columns(view.spec.request.levels)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _, _ in columns])
    writer.writerows([_cell(read(*row)) for _, _, read in columns] for row in _rows(view))
    return text.getvalue().encode()


def _parquet(view: RunView) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), date: pa.date32()}
    rows = list(_rows(view))
    arrays = {
        name: pa.array([read(*row) for row in rows], kinds[kind])
        for name, kind, read in _columns(view.spec.request.levels)
    }
    packed = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(arrays), packed)
    return packed.getvalue()


def _has_pyarrow() -> bool:
    try:
        import pyarrow  # noqa: F401, ICN001 - only whether it is installed
    except ImportError:
        return False
    return True


def _rows(view: RunView) -> Iterator[tuple[TickerResult, ResultRow]]:
    for result in view.results:
        for row in result.rows or (ResultRow(model_id=result.model_id),):
            yield result, row


def _columns(levels: Sequence[float]) -> list[tuple[str, type, Read]]:
    """Name and kind of each column, and how it is read."""
    columns: list[tuple[str, type, Read]] = [
        ("ticker", str, lambda result, _: result.ticker),
        ("state", str, lambda result, _: result.state),
        ("error_code", str, lambda result, _: None if result.error is None else result.error.code),
        ("model_id", str, lambda _, row: row.model_id),
        ("as_of", date, lambda result, _: result.as_of),
        ("step", int, lambda _, row: row.step),
        ("session", date, lambda _, row: row.session),
        ("point", float, lambda _, row: row.point),
        ("no_change", float, lambda _, row: row.no_change),
    ]
    for place, level in enumerate(levels):
        columns += [
            (f"lower_{100 * level:g}", float, lambda _, row, at=place: _at(row.lower, at)),  # type: ignore[misc]
            (f"upper_{100 * level:g}", float, lambda _, row, at=place: _at(row.upper, at)),  # type: ignore[misc]
        ]
    columns += [
        ("mape", float, lambda _, row: row.mape),
        ("no_change_mape", float, lambda _, row: row.no_change_mape),
        ("crps_skill", float, lambda _, row: row.crps_skill),
        *(
            (f"coverage_{100 * level:g}", float, lambda _, row, at=place: _at(row.coverage, at))
            for place, level in enumerate(levels)
        ),
        ("n_origins", int, lambda _, row: row.n_origins),
        ("weights_sha256", str, lambda result, _: result.weights_sha256),
        ("promoted", bool, lambda result, _: result.promoted),
        ("error", str, lambda result, _: None if result.error is None else result.error.detail),
    ]
    return columns


def _at(values: Sequence[float | None], place: int) -> float | None:
    return values[place] if place < len(values) else None


def _cell(value: Cell) -> str:
    """A cell of CSV; empty where nothing is known."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
