"""The template's own decisions, which no linter knows: who may call, what is kept, what is retried, which code runs."""

import json
import re
from datetime import UTC, date, datetime, time
from itertools import product
from typing import Any

import pytest

from config import MIN_RETENTION_DAYS, Settings
from services.access import RIGHTS, new_key
from services.analyses import ANALYSES
from services.forecasting.replays import REPLAYS
from services.jobs.aws_lambda import run_event, training_event
from services.jobs.job import JOBS, KEYS, START_WITHIN
from services.monitoring.forecast_log import FORECASTS
from services.monitoring.overall import SIGNIFICANT_Z
from services.monitoring.scoring import SCORES
from services.nightly_tickers import parse_tickers
from services.prices.cache.kept import PRICES
from services.prices.calendars import is_completed
from services.prices.exchanges import exchange_of
from services.runs.pieces import RUNS
from services.runs.runs import MAX_ATTEMPTS, QUEUED_FOR
from services.webhooks.deliveries import WEBHOOKS
from telemetry.embedded import PUBLISHED
from tests.deploy.template import read_template, resources
from worker import is_task

TEMPLATE = read_template()
PARAMETERS = TEMPLATE["Parameters"]
SERVE, TRAIN, BUCKET = (
    TEMPLATE["Resources"][name]["Properties"] for name in ("ServeFunction", "TrainFunction", "Bucket")
)
PUBLIC = {"Fn::Equals": [{"Ref": "UrlAuthType"}, "NONE"]}
READ_BY_POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"}


def variables(function: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {
        **TEMPLATE["Globals"]["Function"]["Environment"]["Variables"],
        **function["Environment"]["Variables"],
    }
    return merged


def test_url_is_signed_by_default_and_only_the_serving_function_has_one() -> None:
    assert PARAMETERS["UrlAuthType"]["Default"] == "AWS_IAM"
    assert SERVE["FunctionUrlConfig"] == {"AuthType": {"Ref": "UrlAuthType"}}
    assert "FunctionUrlConfig" not in TRAIN


def test_public_url_requires_an_api_key_of_20_characters() -> None:
    key, pattern = PARAMETERS["ApiKey"], PARAMETERS["ApiKey"]["AllowedPattern"]

    rule = TEMPLATE["Rules"]["PublicUrlNeedsApiKey"]

    assert rule["RuleCondition"] == PUBLIC
    assert rule["Assertions"][0]["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ApiKey"}, ""]}]}
    assert [length for length in range(25) if re.fullmatch(pattern, "k" * length)] == [0, 20, 21, 22, 23, 24]
    assert key["NoEcho"] is True
    assert SERVE["Environment"]["Variables"]["API_KEY"]["Fn::If"][:2] == ["HasApiKey", {"Ref": "ApiKey"}]
    assert SERVE["Environment"]["Variables"]["OPEN"]["Fn::If"] == ["IsPublic", {"Ref": "AWS::NoValue"}, "yes"]


def test_named_keys_reach_the_serving_function_alone_and_have_the_form_of_the_setting() -> None:
    entries = ",".join(new_key(name, rights)[1].entry for name, rights in (("ci", RIGHTS), ("page", ["read"])))

    assert re.fullmatch(PARAMETERS["ApiKeys"]["AllowedPattern"], entries)
    assert not re.fullmatch(PARAMETERS["ApiKeys"]["AllowedPattern"], "correct-horse-battery-staple")
    assert PARAMETERS["ApiKeys"]["NoEcho"] is True
    assert SERVE["Environment"]["Variables"]["API_KEYS"]["Fn::If"][:2] == ["HasApiKeys", {"Ref": "ApiKeys"}]
    assert "API_KEYS" not in variables(TRAIN)


def test_public_permissions_exist_only_for_a_public_url() -> None:
    granted = resources(TEMPLATE, "AWS::Lambda::Permission").values()

    by_url: dict[str, dict[str, object]] = {
        "lambda:InvokeFunctionUrl": {"FunctionUrlAuthType": "NONE"},
        "lambda:InvokeFunction": {"InvokedViaFunctionUrl": True},
    }
    assert TEMPLATE["Conditions"]["IsPublic"] == PUBLIC
    assert {one["Condition"] for one in granted} == {"IsPublic"}
    assert [one["Properties"] for one in granted] == [
        {"FunctionName": {"Ref": "ServeFunction"}, "Action": action, "Principal": "*", **restriction}
        for action, restriction in by_url.items()
    ]


def test_bucket_outlives_the_stack_and_is_versioned_encrypted_and_private() -> None:
    bucket = TEMPLATE["Resources"]["Bucket"]

    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert BUCKET["VersioningConfiguration"] == {"Status": "Enabled"}
    assert BUCKET["BucketEncryption"]
    assert list(BUCKET["PublicAccessBlockConfiguration"].values()) == [True] * 4


def test_bucket_refuses_plain_http() -> None:
    (statement,) = TEMPLATE["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]

    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert (statement["Effect"], statement["Action"], statement["Principal"]) == ("Deny", "s3:*", "*")
    assert statement["Resource"] == [{"Fn::GetAtt": ["Bucket", "Arn"]}, {"Fn::Sub": "${Bucket.Arn}/*"}]


def test_models_and_aliases_never_expire_and_the_rest_does_after_the_retention() -> None:
    rules = BUCKET["LifecycleConfiguration"]["Rules"]

    retention = {"Fn::If": ["Forgets", {"Ref": "RetentionDays"}, 400]}
    expiring = {rule.get("Prefix"): rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert expiring == {
        JOBS: retention,
        RUNS: retention,
        WEBHOOKS: retention,
        FORECASTS: retention,
        SCORES: retention,
        KEYS: 7,
        PRICES: 30,
        REPLAYS: 30,
        ANALYSES: 30,
    }
    forgetting = [rule["Status"] for rule in rules if rule.get("ExpirationInDays") == retention]
    assert forgetting == [{"Fn::If": ["Forgets", "Enabled", "Disabled"]}] * 5


def test_the_retention_is_that_of_the_application() -> None:
    parameter = PARAMETERS["RetentionDays"]

    allowed = [days for days in range(1200) if re.fullmatch(parameter["AllowedPattern"], str(days))]
    assert allowed == [0, *range(MIN_RETENTION_DAYS, 1200)]
    assert int(parameter["Default"]) == Settings.model_fields["retention_days"].default
    for function in (SERVE, TRAIN):
        assert variables(function)["RETENTION_DAYS"] == {"Ref": "RetentionDays"}
    assert TEMPLATE["Conditions"]["Forgets"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "RetentionDays"}, "0"]}]}


@pytest.mark.parametrize("function", [SERVE, TRAIN], ids=["serve", "train"])
def test_every_variable_is_a_setting(function: dict[str, Any]) -> None:
    names = set(variables(function))

    assert names - {name.upper() for name in Settings.model_fields} == READ_BY_POWERTOOLS
    assert "S3_BUCKET_NAME" in names


def test_each_function_runs_its_image_and_handler() -> None:
    assert (SERVE["ImageUri"], "ImageConfig" in SERVE) == ({"Ref": "ServeImageUri"}, False)
    assert (TRAIN["ImageUri"], TRAIN["ImageConfig"]) == ({"Ref": "TrainImageUri"}, {"Command": ["worker.handler"]})


def test_timeouts_and_memory_are_within_lambdas_limits() -> None:
    assert max(SERVE["Timeout"], TRAIN["Timeout"]) <= 900
    assert max(PARAMETERS[name]["MaxValue"] for name in ("ServeMemory", "TrainMemory")) <= 10240
    assert PARAMETERS["TrainWaitSeconds"]["MaxValue"] < SERVE["Timeout"]


def test_an_event_that_fails_is_repeated_and_not_lost() -> None:
    asynchronous = TRAIN["EventInvokeConfig"]

    assert variables(SERVE)["TRAINER_FUNCTION_NAME"] == {"Ref": "TrainFunction"}
    assert asynchronous["MaximumRetryAttempts"] == MAX_ATTEMPTS - 1
    assert asynchronous["MaximumEventAgeInSeconds"] == QUEUED_FOR.total_seconds() > START_WITHIN.total_seconds()
    assert asynchronous["DestinationConfig"]["OnFailure"] == {
        "Type": "SQS",
        "Destination": {"Fn::GetAtt": ["DeadLetters", "Arn"]},
    }
    assert TEMPLATE["Resources"]["DeadLetters"]["Properties"]["SqsManagedSseEnabled"] is True
    assert training_event("id") == {"task": "train", "job_id": "id"}
    assert run_event("id.0") == {"task": "run", "piece": "id.0"}
    assert is_task(run_event("id.0"))


def test_past_forecasts_are_scored_daily_after_new_york_and_sao_paulo_have_closed() -> None:
    event = TRAIN["Events"]["Score"]
    default = PARAMETERS["ScoreSchedule"]["Default"]

    daily = re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", default)

    assert event["Properties"]["Schedule"] == {"Ref": "ScoreSchedule"}
    assert json.loads(event["Properties"]["Input"]) == {"task": "score"}
    assert daily is not None
    at = time(int(daily[2]), int(daily[1]), tzinfo=UTC)
    for ticker, session in product(("AAPL", "PETR4.SA"), (date(2024, 1, 17), date(2024, 7, 17))):  # winter, summer
        assert is_completed(exchange_of(ticker), session, datetime.combine(session, at)), (ticker, session)


def test_webhooks_that_failed_are_sent_again_by_the_function_that_trainings_do_not_occupy() -> None:
    event = SERVE["Events"]["Webhooks"]["Properties"]

    assert event["Schedule"] == {"Ref": "WebhookSchedule"}
    assert PARAMETERS["WebhookSchedule"]["Default"] == "rate(5 minutes)"
    assert is_task(json.loads(event["Input"]))


def test_nothing_is_retrained_unless_a_number_is_given() -> None:
    event = TRAIN["Events"]["Retrain"]["Properties"]

    assert PARAMETERS["MaxRetrainings"]["Default"] == 0
    assert TEMPLATE["Conditions"]["Retrains"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "MaxRetrainings"}, 0]}]}
    assert event["State"] == {"Fn::If": ["Retrains", "ENABLED", "DISABLED"]}
    assert event["Schedule"] == {"Ref": "RetrainSchedule"}
    given = json.loads(event["Input"]["Fn::Sub"].replace("${MaxRetrainings}", "7"))
    assert given == {"task": "retrain", "limit": 7}
    assert is_task(given)


def test_what_drifted_is_retrained_after_it_was_scored() -> None:
    at = {}
    for name in ("ScoreSchedule", "RetrainSchedule"):
        found = re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", PARAMETERS[name]["Default"])
        assert found is not None
        at[name] = 60 * int(found[2]) + int(found[1])

    pause = (at["RetrainSchedule"] - at["ScoreSchedule"]) % (24 * 60)
    assert TRAIN["Timeout"] / 60 < pause < 6 * 60


def test_nothing_is_forecast_at_night_unless_tickers_are_given() -> None:
    event = TRAIN["Events"]["Forecast"]["Properties"]

    assert PARAMETERS["NightlyTickers"]["Default"] == ""
    assert event["State"] == {"Fn::If": ["Forecasts", "ENABLED", "DISABLED"]}
    assert event["Schedule"] == {"Ref": "ForecastSchedule"}
    assert is_task(json.loads(event["Input"]))
    assert TEMPLATE["Resources"]["PublicationAlarm"]["Condition"] == "Forecasts"
    assert TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]["NIGHTLY_TICKERS"] == {
        "Fn::If": ["Forecasts", {"Ref": "NightlyTickers"}, {"Ref": "AWS::NoValue"}]
    }


@pytest.mark.parametrize(
    ("tickers", "allowed"),
    [("", True), ("AAPL", True), ("^GSPC,PETR4.SA,BRK-B,EURUSD=X", True), ("aapl", False), ("AAPL,", False)],
)
def test_the_template_takes_only_tickers_that_the_setting_takes(tickers: str, allowed: bool) -> None:
    assert (re.fullmatch(PARAMETERS["NightlyTickers"]["AllowedPattern"], tickers) is not None) == allowed
    if tickers and allowed:
        assert parse_tickers(tickers) == tuple(tickers.split(","))


def test_forecasts_are_made_after_the_retrainings_and_a_second_invocation_does_what_is_left() -> None:
    retraining = re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", PARAMETERS["RetrainSchedule"]["Default"])
    forecasts = re.fullmatch(r"cron\((\d+),(\d+) (\d+) \* \* \? \*\)", PARAMETERS["ForecastSchedule"]["Default"])

    assert retraining is not None
    assert forecasts is not None
    trained_by = 60 * int(retraining[2]) + int(retraining[1]) + TRAIN["Timeout"] / 60
    first, second = (60 * int(forecasts[3]) + int(forecasts[k]) for k in (1, 2))
    assert trained_by < first < first + TRAIN["Timeout"] / 60 < second


def test_every_alarm_watches_this_stack_and_mails_if_there_is_an_address() -> None:
    alarms = [alarm["Properties"] for alarm in resources(TEMPLATE, "AWS::CloudWatch::Alarm").values()]

    serve, train = {"Ref": "ServeFunction"}, {"Ref": "TrainFunction"}
    scoring = variables(TRAIN)["POWERTOOLS_SERVICE_NAME"]
    watched = [alarm.get("Metrics", [{}])[0].get("MetricStat", {}).get("Metric", alarm) for alarm in alarms]
    assert [(metric["MetricName"], metric["Dimensions"][0]["Value"]) for metric in watched] == [
        ("Errors", serve),
        ("Url5xxCount", serve),
        ("Throttles", serve),
        ("Duration", serve),
        ("Errors", train),
        ("ApproximateNumberOfMessagesVisible", {"Fn::GetAtt": ["DeadLetters", "QueueName"]}),
        ("ScoringRuns", scoring),
        ("ForecastPublications", scoring),
        ("Coverage80Deviation", scoring),
        ("Coverage95Deviation", scoring),
        ("SkillZ", scoring),
        ("CrpsSkillZ", scoring),
        ("TickersDrifted", scoring),
        ("SessionsUnscored", scoring),
    ]
    for metric, alarm in zip(watched, alarms, strict=True):
        assert alarm["AlarmActions"]["Fn::If"][:2] == ["HasAlarmEmail", [{"Ref": "AlarmTopic"}]]
        silence = "breaching" if metric["MetricName"] in ("ScoringRuns", "ForecastPublications") else "notBreaching"
        assert alarm["TreatMissingData"] == silence


def test_alarms_on_the_promise_watch_metrics_that_the_scoring_publishes() -> None:
    names = {published.name for group in PUBLISHED.values() for published in group}
    alarms = [alarm["Properties"] for alarm in resources(TEMPLATE, "AWS::CloudWatch::Alarm").values()]
    metrics = [alarm.get("Metrics", [{}])[0].get("MetricStat", {}).get("Metric", alarm) for alarm in alarms]
    own = [metric for metric in metrics if metric["Namespace"] == variables(TRAIN)["POWERTOOLS_METRICS_NAMESPACE"]]

    assert len(own) == 8
    assert {metric["MetricName"] for metric in own} <= names
    assert {metric["Dimensions"][0]["Name"] for metric in own} == {"service"}  # which powertools adds


def test_the_alarm_on_skill_has_the_significance_of_the_one_on_coverage() -> None:
    alarms = resources(TEMPLATE, "AWS::CloudWatch::Alarm")

    assert {alarms[name]["Properties"]["Threshold"] for name in ("SkillAlarm", "CrpsSkillAlarm")} == {-SIGNIFICANT_Z}


def test_logs_expire() -> None:
    logs = resources(TEMPLATE, "AWS::Logs::LogGroup").values()

    assert [log["Properties"]["RetentionInDays"] for log in logs] == [{"Ref": "LogRetentionDays"}] * 2
