"""Turn a forecast into the answers of the routes: by model, and by symbol for legacy contract v2."""

from typing import Any

from errors import AppError
from models.base import CLOSE
from schemas.batch import BatchedForecast, BatchForecast, SymbolError, SymbolResult
from schemas.by_symbol import NOT_KNOWN, DailyForecast, DayForecast, SymbolForecast, SymbolPrediction
from schemas.predict import ForecastResponse, PredictResponse, Step, steps_of
from services.forecasting.forecast import Batch, Forecast, evidence, ticker_warnings

_SENT: dict[str, Any] = {
    "prediction_for_date": NOT_KNOWN,
    "estimated": False,
    "last_data_date": NOT_KNOWN,
    "currency": None,
    "source": "request",
    "stale": None,
    "demo": False,
    "dropped": {},
    "repaired": {},
}
"""What is known of prices that the caller sent."""


def predict_response(forecast: Forecast) -> PredictResponse:
    (step,) = _steps(forecast)
    return PredictResponse(
        **_context(forecast),
        prediction=(step.price,),
        target_session=step.session,
        estimated=step.estimated,
        intervals=step.intervals,
        persistence=step.persistence,
    )


def forecast_response(forecast: Forecast) -> ForecastResponse:
    return ForecastResponse(**_context(forecast), horizon=len(forecast.median), forecast=_steps(forecast))


def symbol_prediction(forecast: Forecast, symbol: str | None = None) -> SymbolPrediction:
    """The next close of a ticker; of prices that the caller sent as those of ``symbol``, whose dates are unknown."""
    given, price, last_close = forecast.given, float(forecast.median[0]), forecast.given.last_close
    reference = float(given.bars[-forecast.card.lookback, CLOSE])
    if given.source is None:
        about = _SENT | {"symbol": symbol or NOT_KNOWN}
        about["warnings"] = (*forecast.warnings, *ticker_warnings(forecast.card, symbol))
    else:
        about = _prices(forecast) | {
            "symbol": given.source.series.ticker,
            "prediction_for_date": given.sessions[0],
            "estimated": given.estimated[0],
            "last_data_date": given.source.as_of,
        }
    return SymbolPrediction(
        **_model(forecast),
        test=forecast.test,
        inference_time_ms=forecast.elapsed_ms,
        timestamp=forecast.made_at,
        **about,
        inputs=forecast.inputs,
        explanation=forecast.explanation,
        predicted_price=price,
        intervals=forecast.intervals[0],
        persistence=given.last_value,
        predicted_ratio=price / reference,
        reference_price=reference,
        last_known_price=last_close,
        expected_change_pct=100 * (price - last_close) / last_close,
    )


def symbol_forecast(forecast: Forecast) -> SymbolForecast:
    symbol = forecast.given.history.series.ticker
    return SymbolForecast(
        **_model(forecast),
        test=forecast.test,
        inference_time_ms=forecast.elapsed_ms,
        timestamp=forecast.made_at,
        **dict(_daily(forecast)),
        symbol=symbol,
        forecast_days=len(forecast.median),
    )


def batch_forecast(batch: Batch) -> BatchForecast:
    """Every symbol's forecast or error, in the order of the request."""
    return BatchForecast(
        **_model(batch),
        test=evidence(batch.card, *batch.card.evidence(None, batch.horizon), batch.levels),
        inference_time_ms=batch.elapsed_ms,
        timestamp=batch.made_at,
        forecast_days=batch.horizon,
        results=tuple(_result(symbol, one) for symbol, one in batch.forecasts.items()),
    )


def _result(symbol: str, forecast: Forecast | AppError) -> SymbolResult:
    if isinstance(forecast, Forecast):
        result = BatchedForecast(**_model(forecast), **dict(_daily(forecast)))
        return SymbolResult(symbol=symbol, result=result, error=None)
    error = SymbolError(
        code=forecast.code,
        detail=forecast.message,
        status=forecast.status_code,
        did_you_mean=forecast.did_you_mean,
    )
    return SymbolResult(symbol=symbol, result=None, error=error)


def _daily(forecast: Forecast) -> DailyForecast:
    last_close = forecast.given.last_close
    return DailyForecast(
        **_prices(forecast),
        **_width(forecast),
        base_price=last_close,
        base_date=forecast.given.history.as_of,
        persistence=forecast.given.last_value,
        forecast=tuple(
            DayForecast(
                day=step.step,
                date=step.session,
                estimated=step.estimated,
                predicted_price=step.price,
                expected_change_pct=100 * (step.price - last_close) / last_close,
                intervals=step.intervals,
            )
            for step in _steps(forecast)
        ),
    )


def _steps(forecast: Forecast) -> tuple[Step, ...]:
    given = forecast.given
    return steps_of(given.sessions, given.estimated, forecast.median.tolist(), forecast.intervals, given.last_value)


def _model(forecast: Forecast | Batch) -> dict[str, Any]:
    card = forecast.card
    return {
        "model_id": card.model_id,
        "alias": forecast.alias,
        "model": card.model,
        "target_column": card.target_column,
    }


def _prices(forecast: Forecast) -> dict[str, Any]:
    history = forecast.given.history
    return {
        "currency": history.series.currency,
        "source": history.source,
        "stale": history.stale,
        "demo": history.demo,
        "dropped": history.dropped,
        "repaired": history.repaired,
        "warnings": forecast.warnings,
    }


def _width(forecast: Forecast) -> dict[str, Any]:
    return {"inputs": forecast.inputs, "explanation": forecast.explanation}


def _context(forecast: Forecast) -> dict[str, Any]:
    history = forecast.given.history
    return {
        **_prices(forecast),
        **_width(forecast),
        **_model(forecast),
        "test": forecast.test,
        "ticker": history.series.ticker,
        "as_of": history.as_of,
        "last_close": forecast.given.last_close,
        "last_session": history.as_of,
    }
