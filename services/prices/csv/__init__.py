"""Daily prices from CSV files of many programs."""

from services.prices.csv.source import CsvSource

__all__ = ["CsvSource"]
