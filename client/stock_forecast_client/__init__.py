"""Client of the stock-forecast API: ``Client(url).forecast(ticker="^GSPC").to_dataframe()``."""

from stock_forecast_client import errors, models, requests
from stock_forecast_client.async_client import AsyncClient
from stock_forecast_client.client import Client
from stock_forecast_client.errors import StockForecastError
from stock_forecast_client.version import VERSION

__version__ = VERSION

__all__ = ["AsyncClient", "Client", "StockForecastError", "__version__", "errors", "models", "requests"]
