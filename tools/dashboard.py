"""Writes the Grafana dashboard from the rows below: ``make dashboard``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueTextMode, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

TITLE = "PETR4 LSTM API — Monitoramento"
FILE = Path(__file__).parent.parent / "monitoring" / "grafana" / "dashboards" / "stock-forecast.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")

WIDTH, HEIGHT, STAT_HEIGHT = 24, 8, 4
RANGE = "$__rate_interval"
RED, GREEN = "red", "green"


@dataclass(frozen=True)
class Panel:
    """A chart over time, or only the newest value.

    Attributes:
        title: the panel's title.
        queries: PromQL and the legend of each series.
        unit: one of Grafana's units.
        newest: show only the newest value.
        good_from: the threshold from which a newest value is green.
        signed: values below 0 are possible.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    newest: bool = False
    good_from: float | None = None
    signed: bool = False


def p95(histogram: str, by: str) -> str:
    return f"histogram_quantile(0.95, sum by (le, {by}) (rate({histogram}_bucket[{RANGE}])))"


def per_second(counter: str, by: str) -> str:
    return f"sum by ({by}) (rate({counter}[{RANGE}]))"


def share(counter: str, only: str) -> str:
    """The share of the series ``only`` in a counter's growth; 0 if there are none."""
    return f"(sum(rate({counter}{{{only}}}[{RANGE}])) or vector(0)) / sum(rate({counter}[{RANGE}]))"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Now",
        (
            Panel("Default model (1 = loaded)", (("min(model_loaded)", "loaded"),), newest=True, good_from=1),
            Panel("API up", (('min(up{job="api"})', "up"),), newest=True, good_from=1),
            Panel("Version", (("build_info", "{{version}}, Python {{python}}"),), newest=True),
            Panel("Requests in progress, including the scrape", (("http_active_requests", "requests"),), newest=True),
        ),
    ),
    (
        "Traffic",
        (
            Panel("Requests per second", ((per_second("http_requests_total", "endpoint"), "{{endpoint}}"),), "reqps"),
            Panel(
                "Latency, 95th percentile", ((p95("http_request_duration_seconds", "endpoint"), "{{endpoint}}"),), "s"
            ),
            Panel(
                "Errors",
                (
                    ("api:request_errors:ratio_rate5m", "5xx, without probes"),
                    (share("http_requests_total", 'status=~"4.."'), "4xx, of all requests"),
                ),
                "percentunit",
            ),
            Panel("Predictions by type, per second", ((per_second("predictions_total", "type"), "{{type}}"),), "reqps"),
            Panel("Inference, 95th percentile", ((p95("prediction_duration_seconds", "type"), "{{type}}"),), "s"),
            Panel(
                "Model cache, per second",
                ((per_second("model_cache_requests_total", "outcome"), "{{outcome}}"),),
                "reqps",
            ),
        ),
    ),
    (
        "Process",
        (
            Panel("CPU", (("process_cpu_usage_percent", "CPU, 100% is one core"),), "percent"),
            Panel("Memory", (("process_memory_usage_bytes", "resident"),), "bytes"),
        ),
    ),
    (
        "Forecasts and outcomes",
        (
            Panel(
                "MAPE of model and persistence",
                (("forecast_realised_mape", "{{kind}}, {{forecast}}"),),
                "percentunit",
            ),
            Panel("Coverage of the intervals", (("forecast_realised_coverage", "{{kind}}, {{level}}"),), "percentunit"),
            Panel(
                "Coverage and skill of all forecasts, in standard errors",
                (
                    ("forecast_coverage_z", "coverage, {{level}}"),
                    ("forecast_realised_skill_z", "skill, {{measure}}"),
                ),
                signed=True,
            ),
            Panel(
                "Coverage off by more than chance",
                (("forecast_coverage_deviation", "{{level}}"),),
                "percentunit",
            ),
            Panel("Skill against no change", (("forecast_realised_skill", "{{measure}}"),), "percentunit", signed=True),
            Panel(
                "Sessions of two weeks without scores",
                (("forecast_sessions_unscored_ratio", "share"),),
                "percentunit",
            ),
            Panel("Since the last scoring", (("api:scoring_age:seconds", "age"),), "s"),
            Panel("Since the last nightly forecasts", (("api:publication_age:seconds", "age"),), "s"),
            Panel("Tickers of the last nightly run", (("forecasts_published", "{{outcome}}"),)),
            Panel("Tickers by drift status", (("forecast_drift", "{{status}}"),)),
            Panel("Scored forecasts, last 90 days", (("forecast_realised_forecasts", "{{kind}}"),)),
            Panel(
                "Forecasts logged and scored, last day",
                (
                    ("sum by (outcome) (increase(forecasts_logged_total[1d]))", "{{outcome}}"),
                    ("sum by (kind) (increase(forecasts_scored_total[1d]))", "scored, {{kind}}"),
                ),
            ),
        ),
    ),
    (
        "Prices",
        (
            Panel(
                "Downloads, per second",
                ((per_second("price_fetches_total", "source, outcome"), "{{source}}: {{outcome}}"),),
                "reqps",
            ),
            Panel(
                "Download time, 95th percentile", ((p95("price_fetch_duration_seconds", "source"), "{{source}}"),), "s"
            ),
            Panel("Age of the last served prices", (("price_age_seconds", "age"),), "s"),
            Panel(
                "Stale price histories",
                (("api:stale_prices:ratio_rate30m", "stale, last 30 minutes"),),
                "percentunit",
            ),
            Panel(
                "Price cache, per second",
                ((per_second("price_cache_requests_total", "outcome"), "{{outcome}}"),),
                "reqps",
            ),
        ),
    ),
    (
        "Trainings",
        (
            Panel(
                "Running and waiting",
                (("training_jobs_running", "running"), ("training_jobs_waiting", "waiting")),
            ),
            Panel("Ended, last hour", (("sum by (state) (increase(training_jobs_total[1h]))", "{{state}}"),)),
            Panel(
                "Duration",
                (
                    ("histogram_quantile(0.5, sum by (le) (rate(training_duration_seconds_bucket[1h])))", "median"),
                    ("histogram_quantile(0.95, sum by (le) (rate(training_duration_seconds_bucket[1h])))", "95th"),
                ),
                "s",
            ),
        ),
    ),
    (
        "Store",
        (
            Panel(
                "Operations, per second",
                ((per_second("store_operations_total", "operation, outcome"), "{{operation}}: {{outcome}}"),),
                "ops",
            ),
            Panel(
                "Operation time, 95th percentile",
                ((p95("store_operation_duration_seconds", "operation"), "{{operation}}"),),
                "s",
            ),
        ),
    ),
)


def queries() -> list[str]:
    return [expr for _, panels in ROWS for panel in panels for expr, _ in panel.queries]


def dashboard_json() -> str:
    board = (
        dashboard.Dashboard(TITLE)
        .uid("stock-forecast")
        .tags(["stock-forecast"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .readonly()
    )
    for title, panels in ROWS:
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(_newest(panel) if panel.newest else _over_time(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _newest(panel: Panel) -> stat.Panel:
    built = stat.Panel().title(panel.title).unit(panel.unit).datasource(SOURCE).height(STAT_HEIGHT).span(WIDTH // 4)
    if panel.good_from is not None:
        steps = [Threshold(value=None, color=RED), Threshold(value=panel.good_from, color=GREEN)]
        built = built.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if "{{" in panel.queries[0][1]:
        built = built.text_mode(BigValueTextMode.NAME)  # the information is in the labels
    for target in _targets(panel):
        built = built.with_target(target)
    return built


def _over_time(panel: Panel) -> timeseries.Panel:
    legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
    built = timeseries.Panel().title(panel.title).unit(panel.unit).datasource(SOURCE).legend(legend)
    built = built.height(HEIGHT).span(WIDTH // 3)
    if not panel.signed:
        built = built.min(0)
    for target in _targets(panel):
        built = built.with_target(target)
    return built


def _targets(panel: Panel) -> Iterator[prometheus.Dataquery]:
    for ref, (expr, legend) in zip(ascii_uppercase, panel.queries, strict=False):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).datasource(SOURCE).ref_id(ref)
        yield query.instant() if panel.newest else query.range()


def main() -> None:
    FILE.write_text(dashboard_json(), encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
