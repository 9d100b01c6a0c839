"""A series as the text of a CSV file, which ``CsvSource`` reads back to the same series."""

import math

from services.prices.series import COLUMNS, PriceSeries


def to_csv(series: PriceSeries) -> str:
    """One row per session, oldest first; a cell that is not known is empty, and every other exact."""
    lines = [",".join(["Date", *COLUMNS])]
    for day, bar in zip(series.sessions.astype(str).tolist(), series.bars.tolist(), strict=True):
        lines.append(",".join([day, *("" if math.isnan(value) else repr(value) for value in bar)]))
    return "\n".join([*lines, ""])
