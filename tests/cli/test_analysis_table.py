"""What ``analyze`` prints: every part of an analysis, in 80 columns, with nothing cut off."""

from datetime import date

import numpy as np

from cli.analysis_table import analysis_table
from cli.layout import figure, share, signed
from services.analysis.dependence import correlogram
from stock_forecast_client.models import Analysis, Correlogram, MissingRun, OvernightGap, SuspectedSplit
from tests.cli.conftest import rendered


def shown(analysis: Analysis) -> str:
    return rendered(analysis_table(analysis), 80)


def test_every_part_fits_in_80_columns(analysis: Analysis) -> None:
    text = shown(analysis)

    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for expected in (
        f"{analysis.summary.annualised_volatility:.1%} a year",
        figure(analysis.distribution.excess_kurtosis),
        share(analysis.drawdowns.deepest[4].depth),
        share(analysis.volatility.rolling[3].last),
        signed(analysis.dependence.squared_returns.acf[4]),
        f"{analysis.dependence.returns.ljung_box[1].statistic:.1f}",
        "ADF",
        "KPSS",
    ):
        assert expected in text, expected


def test_figures_are_followed_by_what_they_mean(analysis: Analysis) -> None:
    text = " ".join(shown(analysis).split())

    assert "the no-change forecast is hard to beat" in text
    assert analysis.seasonality.month.interpretation in text
    assert analysis.stationarity.interpretation in text


def test_a_correlation_beyond_its_bound_is_marked(analysis: Analysis) -> None:
    first = next(line.split() for line in shown(analysis).splitlines() if line.split()[:1] == ["1"])

    assert [cell.endswith("*") for cell in first] == [False, False, False, False, True, False, True, False]


def test_the_mean_of_a_month_has_its_error_and_a_mark_where_that_excludes_zero(analysis: Analysis) -> None:
    january = next(line.split() for line in shown(analysis).splitlines() if "January" in line)

    assert january[-4:] == ["January", "21", "+0.2603%", "0.2308%*"]


def test_splits_gaps_and_missing_sessions_are_named(analysis: Analysis) -> None:
    found = analysis.data_quality.model_copy(
        update={
            "n_missing_sessions": 9,
            "missing": [
                MissingRun(first=date(2018, 1, 3), last=date(2018, 1, 3), n_sessions=1),
                MissingRun(first=date(2018, 2, 5), last=date(2018, 2, 14), n_sessions=8),
            ],
            "n_overnight_gaps": 1,
            "overnight_gaps": [OvernightGap(session=date(2018, 5, 2), log_return=-0.12, mad_zscore=-9.0)],
            "suspected_splits": [SuspectedSplit(session=date(2018, 6, 4), ratio=0.502, near="1:2", mad_zscore=-40.0)],
        }
    )

    text = " ".join(shown(analysis.model_copy(update={"data_quality": found})).split())

    assert "missing sessions 9, longest: 2018-02-05 to 2018-02-14, 2018-01-03" in text
    assert "overnight gaps 1: 2018-05-02 -12.0%" in text
    assert "suspected splits 1: 2018-06-04 1:2 (close is 0.502 of the one before)" in text


def test_an_unknown_figure_is_a_dash(analysis: Analysis) -> None:
    nothing = Correlogram.model_validate_json(correlogram(np.zeros(300)).model_dump_json())
    unknown = analysis.dependence.model_copy(update={"returns": nothing, "squared_returns": nothing})

    text = shown(analysis.model_copy(update={"dependence": unknown}))

    assert "Ljung–Box of returns  10 lags –; 20 lags –" in text
