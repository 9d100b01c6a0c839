"""Answers as pandas DataFrames; the generated models of these answers inherit from these classes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    import pandas as pd


class PricesFrame(BaseModel):
    def to_dataframe(self) -> "pd.DataFrame":
        """One row per session, indexed by ``Date``."""
        return _frame(self.model_dump()["data"], "Date")


class PredictionFrame(BaseModel):
    def to_dataframe(self) -> "pd.DataFrame":
        """One row, indexed by ``session``; ``lower_80`` and ``upper_80`` are the bounds of the 80 % interval."""
        answer = self.model_dump()
        row = {"session": answer["target_session"], "step": 1, "price": answer["prediction"][0]}
        return _frame([{**row, **_named(answer, "persistence", "estimated"), **_bounds(answer)}], "session")


class ForecastFrame(BaseModel):
    def to_dataframe(self) -> "pd.DataFrame":
        """One row per step, indexed by ``session``; ``lower_80`` and ``upper_80`` bound the 80 % interval."""
        names = ("session", "step", "price", "persistence", "estimated")
        steps = self.model_dump()["forecast"]
        return _frame([{**_named(step, *names), **_bounds(step)} for step in steps], "session")


class SymbolForecastFrame(BaseModel):
    def to_dataframe(self) -> "pd.DataFrame":
        """One row per day, indexed by ``date``; ``lower_80`` and ``upper_80`` bound the 80 % interval."""
        return _frame(_days(self.model_dump()), "date")


class BatchFrame(BaseModel):
    def to_dataframe(self) -> "pd.DataFrame":
        """One row per symbol and day, indexed by both; a symbol without a forecast has one row with its ``error``."""
        rows: list[dict[str, Any]] = []
        for one in self.model_dump()["results"]:
            days = [{"date": None}] if one["result"] is None else _days(one["result"])
            error = None if one["error"] is None else one["error"]["code"]
            rows += [{"symbol": one["symbol"], **day, "error": error} for day in days]
        return _frame(rows, "symbol", "date")


class LatestFrame(BaseModel):
    def to_dataframe(self) -> "pd.DataFrame":
        """One row per ticker, indexed by ``ticker``; a ticker without a forecast has its ``error``."""
        names = ("session", "price", "persistence", "last_close", "change_pct", "as_of", "stale", "expected_move_pct",
                 "usual_move_pct", "drift", "model_id")  # fmt: skip
        answer = self.model_dump()
        made = [{**_named(one, "ticker", *names), **_bounds(one), "error": None} for one in answer["forecasts"]]
        return _frame([*made, *({"ticker": one["ticker"], "error": one["code"]} for one in answer["failed"])], "ticker")


class BacktestFrame(BaseModel):
    def to_dataframe(self) -> "pd.DataFrame":
        """One row per forecaster and step; ``step`` is missing in the row over all steps.

        ``coverage_80`` is the share of closes inside the 80 % intervals; ``p_value_mae`` is that of ``skill_mae``.
        """
        answer = self.model_dump()
        rows = [
            {"forecaster": report["name"], **_scores(part)}
            for report in (answer["model_report"], *answer["baselines"])
            for part in (*report["steps"], report["overall"])
        ]
        return _frame(rows).astype({"step": "Int64"})


def _frame(rows: list[dict[str, Any]], *index: str) -> "pd.DataFrame":
    try:
        import pandas as pd
    except ImportError:
        message = "to_dataframe needs pandas; install it with: pip install 'stock-forecast-client[pandas]'"
        raise ImportError(message) from None
    frame = pd.DataFrame(rows)
    for name in {"Date", "date", "session"} & {*frame.columns}:
        frame[name] = pd.to_datetime(frame[name])
    return frame.set_index(list(index)) if index else frame


def _days(forecast: dict[str, Any]) -> list[dict[str, Any]]:
    names = ("date", "day", "predicted_price", "expected_change_pct", "estimated")
    persistence = _named(forecast, "persistence")
    return [{**_named(day, *names), **persistence, **_bounds(day)} for day in forecast["forecast"]]


def _bounds(row: dict[str, Any]) -> dict[str, float]:
    intervals: Iterable[dict[str, float]] = row["intervals"]
    return {f"{end}_{100 * one['level']:g}": one[end] for one in intervals for end in ("lower", "upper")}


def _scores(part: dict[str, Any]) -> dict[str, Any]:
    compared = {f"{kind}_{name}": value for kind in ("skill", "p_value") for name, value in part[kind].items()}
    intervals = {
        f"{column}_{100 * one['level']:g}": one[field]
        for one in part["coverage"]
        for column, field in (("coverage", "empirical_coverage"), ("width",) * 2, ("interval_score",) * 2)
    }
    return {**_named(part, "step", "n_origins"), **part["model"], **compared, **intervals}


def _named(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}
