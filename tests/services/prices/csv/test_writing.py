from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.prices.calendars import next_sessions
from services.prices.cleaning import clean
from services.prices.csv.source import read_bars
from services.prices.csv.writing import to_csv

PRICES = st.floats(min_value=1e-9, max_value=1e12)


@given(
    st.lists(st.tuples(PRICES, *[st.none() | st.floats(0.5, 2.0)] * 3, st.none() | st.integers(0, 10**12)), min_size=1)
)
def test_what_cleaning_keeps_is_read_back_exactly(
    rows: list[tuple[float, float | None, float | None, float | None, int | None]],
) -> None:
    bars = [
        [
            *(np.nan if factor is None else close * factor for factor in factors),
            close,
            np.nan if volume is None else volume,
        ]
        for close, *factors, volume in rows
    ]
    series, _ = clean("AAPL", next_sessions("XNYS", date(2024, 1, 1), len(rows)), bars)

    text = to_csv(series)

    raw = read_bars(text.splitlines(keepends=True), "AAPL.csv", ticker="AAPL", local_date=lambda moment: moment.date())
    again, defects = clean("AAPL", raw.sessions, raw.bars)
    np.testing.assert_array_equal(again.bars, series.bars)
    np.testing.assert_array_equal(again.sessions, series.sessions)
    assert defects.n_dropped == {}
