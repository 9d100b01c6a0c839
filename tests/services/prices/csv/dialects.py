"""Writers of one series in the formats that people have, for the tests of the reader."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import pandas as pd


@dataclass(frozen=True)
class Bar:
    day: date
    open: float
    high: float
    low: float
    close: float
    volume: int

    @property
    def prices(self) -> tuple[float, float, float, float]:
        return self.open, self.high, self.low, self.close


Bars = Sequence[Bar]


def frame(bars: Bars, *names: str) -> pd.DataFrame:
    columns = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Adj Close": "close", "Volume": "volume"}
    index = pd.DatetimeIndex([bar.day for bar in bars], name="Date")
    return pd.DataFrame({name: [getattr(bar, columns[name]) for bar in bars] for name in names}, index=index)


def table(header: str, bars: Bars, row: Callable[[Bar], str], newline: str = "\n") -> bytes:
    return (newline.join([header, *map(row, bars)]) + newline).encode()


def comma(value: float) -> str:
    """1.234,56 as Brazil writes it."""
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def ours(bars: Bars) -> bytes:
    return table(
        "volume,CLOSE,Remark,low,High,open, date ",
        bars,
        lambda bar: f"{bar.volume},{bar.close},x,{bar.low},{bar.high},{bar.open},{bar.day}",
    )


def yfinance_download(bars: Bars) -> bytes:
    prices = frame(bars, "Close", "High", "Low", "Open", "Volume")
    prices.columns = pd.MultiIndex.from_product([prices.columns, ["AAPL"]], names=["Price", "Ticker"])
    return prices.to_csv().encode()


def yfinance_download_adj_close(bars: Bars) -> bytes:
    prices = frame(bars, "Adj Close", "Close", "High", "Low", "Open", "Volume")
    prices.columns = pd.MultiIndex.from_product([prices.columns, ["AAPL"]], names=["Price", "Ticker"])
    return prices.to_csv().encode()


def yfinance_download_of_two(bars: Bars) -> bytes:
    prices = frame(bars, "Close", "High", "Low", "Open", "Volume")
    both = pd.concat({"MSFT": prices * 2, "AAPL": prices}, axis=1, names=["Ticker", "Price"])
    return both.swaplevel(axis=1).sort_index(axis=1).to_csv().encode()


def yfinance_download_by_ticker(bars: Bars) -> bytes:
    prices = frame(bars, "Open", "High", "Low", "Close", "Volume")
    return pd.concat({"MSFT": prices * 2, "AAPL": prices}, axis=1, names=["Ticker", "Price"]).to_csv().encode()


def yfinance_before_2024(bars: Bars) -> bytes:
    prices = frame(bars, "Adj Close", "Close", "High", "Low", "Open", "Volume")
    both = pd.concat({"MSFT": prices * 2, "AAPL": prices}, axis=1).swaplevel(axis=1).sort_index(axis=1)
    return both.to_csv().encode()


def yfinance_history(bars: Bars) -> bytes:
    prices = frame(bars, "Open", "High", "Low", "Close", "Volume").assign(Dividends=0.0, **{"Stock Splits": 0.0})
    return prices.tz_localize("America/New_York").to_csv().encode()


def yfinance_in_utc(bars: Bars) -> bytes:
    prices = frame(bars, "Open", "High", "Low", "Close", "Volume")
    return prices.tz_localize("America/New_York").tz_convert("UTC").to_csv().encode()


def pandas_without_index_name(bars: Bars) -> bytes:
    return frame(bars, "Open", "High", "Low", "Close", "Volume").rename_axis(None).to_csv().encode()


def yahoo_website(bars: Bars) -> bytes:
    return table(
        "Date,Open,High,Low,Close,Adj Close,Volume",
        bars,
        lambda bar: ",".join(map(str, (bar.day, *bar.prices, bar.close, bar.volume))),
        newline="\r\n",
    )


def investing_english(bars: Bars) -> bytes:
    def row(bar: Bar) -> str:
        prices = ",".join(f'"{value:,.2f}"' for value in (bar.close, bar.open, bar.high, bar.low))
        return f'"{bar.day:%m/%d/%Y}",{prices},"{bar.volume / 1e6:.2f}M","-0.12%"'

    return b"\xef\xbb\xbf" + table('"Date","Price","Open","High","Low","Vol.","Change %"', bars[::-1], row)


def investing_portuguese(bars: Bars) -> bytes:
    def row(bar: Bar) -> str:
        prices = ",".join(f'"{comma(value)}"' for value in (bar.close, bar.open, bar.high, bar.low))
        return f'"{bar.day:%d.%m.%Y}",{prices},"{comma(bar.volume / 1e6)}M","-0,12%"'

    return table('"Data","Último","Abertura","Máxima","Mínima","Vol.","Var%"', bars[::-1], row)


def investing_portuguese_of_windows(bars: Bars) -> bytes:
    return investing_portuguese(bars).decode().encode("cp1252")


def nasdaq(bars: Bars) -> bytes:
    return table(
        "Date,Close/Last,Volume,Open,High,Low",
        bars[::-1],
        lambda bar: f"{bar.day:%m/%d/%Y},${bar.close},{bar.volume},${bar.open},${bar.high},${bar.low}",
    )


def stooq(bars: Bars) -> bytes:
    return table(
        "Date,Open,High,Low,Close,Volume", bars, lambda bar: ",".join(map(str, (bar.day, *bar.prices, bar.volume)))
    )


def stooq_bulk(bars: Bars) -> bytes:
    return table(
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
        bars,
        lambda bar: f"AAPL.US,D,{bar.day:%Y%m%d},000000,{','.join(map(str, bar.prices))},{bar.volume},0",
    )


def alpha_vantage(bars: Bars) -> bytes:
    return table(
        "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient",
        bars[::-1],
        lambda bar: ",".join(map(str, (bar.day, *bar.prices, bar.close, bar.volume, 0.0, 1.0))),
        newline="\r\n",
    )


def metatrader(bars: Bars) -> bytes:
    return table(
        "<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>",
        bars,
        lambda bar: "\t".join([f"{bar.day:%Y.%m.%d}", *map(str, bar.prices), str(bar.volume), "0", "1"]),
        newline="\r\n",
    )


def spreadsheet_of_brazil(bars: Bars) -> bytes:
    return table(
        "Data;Abertura;Máxima;Mínima;Fechamento;Volume",
        bars,
        lambda bar: ";".join([f"{bar.day:%d/%m/%Y}", *(f"R$ {comma(value)}" for value in bar.prices), str(bar.volume)]),
    )


def spreadsheet_in_utf16(bars: Bars) -> bytes:
    return spreadsheet_of_brazil(bars).decode().replace(";", "\t").encode("utf-16")


def spreadsheet_in_utf16_big_endian(bars: Bars) -> bytes:
    return b"\xfe\xff" + ("sep=;\n" + spreadsheet_of_brazil(bars).decode()).encode("utf-16-be")


def all_stocks(bars: Bars) -> bytes:
    return table(
        "date,open,high,low,close,volume,Name",
        bars,
        lambda bar: f"{bar.day},{_cells(bar)},AAPL\n{bar.day},1,1,1,1,1,MSFT",
    )


def google_finance(bars: Bars) -> bytes:
    return table(
        "Date,Open,High,Low,Close,Volume",
        bars,
        lambda bar: (
            f"{bar.day.month}/{bar.day.day}/{bar.day.year} 16:00:00,{','.join(map(str, bar.prices))},{bar.volume}"
        ),
    )


def month_names(bars: Bars) -> bytes:
    return table(
        "Date,Open,High,Low,Close,Volume",
        bars,
        lambda bar: f'"{bar.day:%b %d, %Y}",{",".join(map(str, bar.prices))},{bar.volume}',
    )


def india(bars: Bars) -> bytes:
    return table(
        "Date ,OPEN ,HIGH ,LOW ,close ,VOLUME ",
        bars,
        lambda bar: f"{bar.day:%d-%b-%Y},{','.join(map(str, bar.prices))},{bar.volume}",
    )


def unix_seconds(bars: Bars) -> bytes:
    return table("time,open,high,low,close,Volume", bars, lambda bar: f"{_opening(bar)},{_cells(bar)}")


def unix_milliseconds(bars: Bars) -> bytes:
    return table(
        "timestamp;open;high;low;close;Volume", bars, lambda bar: f"{_opening(bar)}000,{_cells(bar)}".replace(",", ";")
    )


def midnights_in_utc(bars: Bars) -> bytes:
    return table("date,open,high,low,close,volume", bars, lambda bar: f"{bar.day}T00:00:00.000Z,{_cells(bar)}")


def _opening(bar: Bar) -> int:
    return int(datetime.combine(bar.day, time(14, 30), UTC).timestamp())


def _cells(bar: Bar) -> str:
    return ",".join(map(str, (*bar.prices, bar.volume)))


DIALECTS: dict[str, Callable[[Bars], bytes]] = {
    write.__name__: write
    for write in (
        ours, yfinance_download, yfinance_download_adj_close, yfinance_download_of_two, yfinance_download_by_ticker,
        yfinance_before_2024, yfinance_history, yfinance_in_utc, pandas_without_index_name, yahoo_website,
        investing_english, investing_portuguese, investing_portuguese_of_windows, nasdaq, stooq, stooq_bulk,
        alpha_vantage, metatrader, spreadsheet_of_brazil, spreadsheet_in_utf16, spreadsheet_in_utf16_big_endian,
        all_stocks, google_finance, month_names, india, unix_seconds, unix_milliseconds, midnights_in_utc,
    )
}  # fmt: skip
