"""Daily prices from CSV files as people have them."""

from services.prices.csv.source import CsvSource

__all__ = ["CsvSource"]
