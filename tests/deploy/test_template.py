"""Holds the template to what the linters do not know: limits, who may call, what may be touched, what is kept.

``mistakes`` reads a template and says what is wrong with it; the planted ones show that it does.
"""

import ast
import copy
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from itertools import product
from typing import Any

import pytest

import app
import worker
from config import Settings
from services.jobs.aws_lambda import training_event
from services.jobs.job import JOBS, START_WITHIN
from services.monitoring.forecast_log import FORECASTS
from services.prices.calendars import is_completed
from services.prices.exchanges import exchange_of
from tests.deploy.template import ROOT, Template, functions, possible_numbers, read_template, resources
from tests.test_images import stage

LONGEST_S = 900
MEMORY_MB = (128, 10240)
TMP_MB = (512, 10240)
OF_POWERTOOLS = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_METRICS_NAMESPACE"}
FOLDERS = {"models", "aliases", "jobs", "idempotency", "forecasts", "scores", "contests", "prices"}  # of the bucket
WITHOUT_A_RESOURCE: set[str] = set()  # actions that AWS grants on "*" only; none is needed

PUBLIC = {"Fn::Equals": [{"Ref": "UrlAuthType"}, "NONE"]}
NO_KEY = {"Fn::Equals": [{"Ref": "ApiKey"}, ""]}


def mistakes(template: Template) -> list[str]:
    """One line for each thing that would fail, cost or be open in a way nobody asked for."""
    checks: tuple[Callable[[Template], Iterator[str]], ...] = (
        beyond_the_limits,
        of_the_url,
        of_the_api_key,
        too_wide,
        of_the_bucket,
        of_the_environment,
        of_the_training_events,
        of_the_schedule,
    )
    return [found for check in checks for found in check(template)]


def beyond_the_limits(template: Template) -> Iterator[str]:
    for name, function in functions(template).items():
        for key, value, (low, high) in (
            ("Timeout", function["Timeout"], (1, LONGEST_S)),
            ("MemorySize", function["MemorySize"], MEMORY_MB),
            ("EphemeralStorage", function.get("EphemeralStorage", {}).get("Size", TMP_MB[0]), TMP_MB),
        ):
            if not all(low <= number <= high for number in possible_numbers(template, value)):
                yield f"{name}: {key} {value} is not within {low} to {high}"


def of_the_url(template: Template) -> Iterator[str]:
    parameter = template["Parameters"]["UrlAuthType"]
    if parameter["Default"] != "AWS_IAM" or set(parameter["AllowedValues"]) != {"AWS_IAM", "NONE"}:
        yield "UrlAuthType: must be AWS_IAM unless NONE is asked for"
    urls = {
        name: found["FunctionUrlConfig"] for name, found in functions(template).items() if "FunctionUrlConfig" in found
    }
    if set(urls) != {"ServeFunction"}:
        yield f"function URLs: {sorted(urls)}"
    for name, url in urls.items():
        if url["AuthType"] != {"Ref": "UrlAuthType"}:
            yield f"{name}: AuthType {url['AuthType']} does not follow UrlAuthType"
    if template["Conditions"]["IsPublic"] != PUBLIC:
        yield "IsPublic: must be UrlAuthType NONE"
    yield from of_the_public(template)


def of_the_public(template: Template) -> Iterator[str]:
    """Since October 2025 a URL needs both actions, the second bound to calls by way of the URL."""
    granted = resources(template, "AWS::Lambda::Permission")
    if {found["Properties"]["Action"] for found in granted.values()} != {
        "lambda:InvokeFunctionUrl",
        "lambda:InvokeFunction",
    }:
        yield f"permissions: {sorted(granted)}"
    for name, found in granted.items():
        properties = found["Properties"]
        by_url = properties.get("FunctionUrlAuthType") == "NONE" or properties.get("InvokedViaFunctionUrl") is True
        if found.get("Condition") != "IsPublic" or not by_url or properties["FunctionName"] != {"Ref": "ServeFunction"}:
            yield f"{name}: lets everybody in by another way than the public URL"


def of_the_api_key(template: Template) -> Iterator[str]:
    parameter = template["Parameters"]["ApiKey"]
    if parameter.get("NoEcho") is not True:
        yield "ApiKey: is shown to whoever may describe the stack"
    pattern = parameter["AllowedPattern"]
    if [length for length in range(25) if re.fullmatch(pattern, "k" * length)] != [0, 20, 21, 22, 23, 24]:
        yield f"ApiKey: {pattern} does not ask for 20 characters"
    rules = template.get("Rules", {}).values()
    if not any(rule["RuleCondition"] == PUBLIC and _asserts(rule, {"Fn::Not": [NO_KEY]}) for rule in rules):
        yield "Rules: UrlAuthType NONE is possible without an ApiKey"


def _asserts(rule: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return any(found["Assert"] == wanted for found in rule["Assertions"])


def too_wide(template: Template) -> Iterator[str]:
    for name, role in resources(template, "AWS::IAM::Role").items():
        properties = role["Properties"]
        if properties.get("ManagedPolicyArns"):
            yield f"{name}: managed policies grant more than is used"
        statements = [one for policy in properties["Policies"] for one in policy["PolicyDocument"]["Statement"]]
        for statement in statements:
            actions, targets = _listed(statement["Action"]), _listed(statement["Resource"])
            wide = [str(target) for target in targets if not _is_bounded(target)]
            if any("*" in action for action in actions) or (wide and not set(actions) <= WITHOUT_A_RESOURCE):
                yield f"{name}: {actions} on {targets}"


def _is_bounded(target: Any) -> bool:
    """One resource of this stack, or one folder of its bucket."""
    match target:
        case {"Fn::GetAtt": [str(), "Arn"]}:
            return True
        case {"Fn::Sub": str(text)}:
            found = re.fullmatch(r"\$\{Bucket\.Arn\}/(\w+)/\*", text)
            return found is not None and found[1] in FOLDERS
        case _:
            return False


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def of_the_bucket(template: Template) -> Iterator[str]:
    bucket = template["Resources"]["Bucket"]
    properties = bucket["Properties"]
    if (bucket.get("DeletionPolicy"), bucket.get("UpdateReplacePolicy")) != ("RetainExceptOnCreate", "Retain"):
        yield "Bucket: goes with the stack"
    if properties.get("VersioningConfiguration") != {"Status": "Enabled"}:
        yield "Bucket: is not versioned"
    if "BucketEncryption" not in properties:
        yield "Bucket: is not encrypted"
    closed = properties.get("PublicAccessBlockConfiguration", {})
    if len(closed) != 4 or not all(value is True for value in closed.values()):
        yield "Bucket: can be opened to the public"
    expiring = {
        rule.get("Prefix"): rule["ExpirationInDays"]
        for rule in properties["LifecycleConfiguration"]["Rules"]
        if "ExpirationInDays" in rule
    }
    if expiring != {JOBS: 90, "idempotency/": 7, FORECASTS: 90, "prices/": 30}:
        yield f"Bucket: {expiring} expire"
    if not any(_refuses_plain_http(found) for found in resources(template, "AWS::S3::BucketPolicy").values()):
        yield "Bucket: answers without TLS"


def _refuses_plain_http(policy: dict[str, Any]) -> bool:
    plain = {"Bool": {"aws:SecureTransport": "false"}}
    whole = [{"Fn::GetAtt": ["Bucket", "Arn"]}, {"Fn::Sub": "${Bucket.Arn}/*"}]
    return any(
        (one["Effect"], one["Action"], one["Principal"]) == ("Deny", "s3:*", "*")
        and one["Condition"] == plain
        and one["Resource"] == whole
        for one in policy["Properties"]["PolicyDocument"]["Statement"]
    )


def of_the_environment(template: Template) -> Iterator[str]:
    known = {name.upper() for name in Settings.model_fields} | OF_POWERTOOLS
    for name, function in functions(template).items():
        variables = function["Environment"]["Variables"]
        for unknown in sorted(set(variables) - known):
            yield f"{name}: {unknown} is no setting"
        for needed in sorted({"S3_BUCKET_NAME", *OF_POWERTOOLS} - set(variables)):
            yield f"{name}: has no {needed}"


def of_the_training_events(template: Template) -> Iterator[str]:
    """A job is claimed once and waits no longer than its event."""
    found = functions(template)
    if found["ServeFunction"]["Environment"]["Variables"].get("TRAINER_FUNCTION_NAME") != {"Ref": "TrainFunction"}:
        yield "ServeFunction: does not know the trainer"
    asynchronous = found["TrainFunction"].get("EventInvokeConfig", {})
    if asynchronous.get("MaximumRetryAttempts") != 0:
        yield "TrainFunction: is tried again by Lambda"
    if asynchronous.get("MaximumEventAgeInSeconds") != START_WITHIN.total_seconds():
        yield "TrainFunction: its events live longer or shorter than its jobs"
    failed = asynchronous.get("DestinationConfig", {}).get("OnFailure")
    if failed != {"Type": "SQS", "Destination": {"Fn::GetAtt": ["DeadLetters", "Arn"]}}:
        yield "TrainFunction: loses the events that fail"
    if template["Resources"]["DeadLetters"]["Properties"].get("SqsManagedSseEnabled") is not True:
        yield "DeadLetters: is not encrypted"


def of_the_schedule(template: Template) -> Iterator[str]:
    """Scoring is started once a day, after New York and São Paulo have closed, by an event the worker takes."""
    events = functions(template)["TrainFunction"].get("Events", {})
    rules = [event["Properties"] for event in events.values() if event["Type"] == "Schedule"]
    if [(rule["Schedule"], worker.is_task(json.loads(rule["Input"]))) for rule in rules] != [
        ({"Ref": "ScoreSchedule"}, True)
    ]:
        yield "TrainFunction: is not told to score"
    parameter = template["Parameters"]["ScoreSchedule"]
    daily = re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", parameter["Default"])
    if daily is None or not re.fullmatch(parameter["AllowedPattern"], parameter["Default"]):
        yield "ScoreSchedule: is not daily"
        return
    at = time(int(daily[2]), int(daily[1]), tzinfo=UTC)
    for ticker, session in product(("AAPL", "PETR4.SA"), (date(2024, 1, 17), date(2024, 7, 17))):  # winter, summer
        if not is_completed(exchange_of(ticker), session, datetime.combine(session, at)):
            yield f"ScoreSchedule: {ticker} has not closed by {at}"


def test_template_has_no_mistakes() -> None:
    assert mistakes(read_template()) == []


def changed(*path: str, to: Any) -> Callable[[Template], None]:
    """A change of the value at the end of the path."""

    def change(template: Template) -> None:
        place: Any = template
        for key in path[:-1]:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[path[-1]] = to

    return change


def removed(*path: str) -> Callable[[Template], None]:
    def remove(template: Template) -> None:
        place: Any = template
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return remove


RESOURCES = "Resources"
OF_SERVE = (RESOURCES, "ServeFunction", "Properties")
OF_TRAIN = (RESOURCES, "TrainFunction", "Properties")
OF_BUCKET = (RESOURCES, "Bucket", "Properties")
FIRST_STATEMENT = ("Properties", "Policies", "0", "PolicyDocument", "Statement", "0")


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (changed(*OF_TRAIN, "Timeout", to=901), "TrainFunction: Timeout 901"),
        (changed(*OF_TRAIN, "MemorySize", to=20000), "TrainFunction: MemorySize 20000"),
        (changed("Parameters", "TrainMemory", "MaxValue", to=20000), "TrainFunction: MemorySize"),
        (changed(*OF_TRAIN, "EphemeralStorage", "Size", to=100), "TrainFunction: EphemeralStorage 100"),
        (changed("Parameters", "UrlAuthType", "Default", to="NONE"), "UrlAuthType: must be AWS_IAM"),
        (changed(*OF_SERVE, "FunctionUrlConfig", "AuthType", to="NONE"), "ServeFunction: AuthType NONE"),
        (changed(*OF_SERVE, "FunctionUrlConfig", "AuthType", to="IAM"), "ServeFunction: AuthType IAM"),
        (changed(*OF_TRAIN, "FunctionUrlConfig", to={"AuthType": {"Ref": "UrlAuthType"}}), "function URLs: "),
        (removed(RESOURCES, "PublicInvokePermission"), "permissions: "),
        (removed(RESOURCES, "PublicUrlPermission", "Condition"), "PublicUrlPermission: lets everybody in"),
        (
            removed(RESOURCES, "PublicInvokePermission", "Properties", "InvokedViaFunctionUrl"),
            "PublicInvokePermission: lets everybody in",
        ),
        (removed("Rules", "PublicUrlNeedsApiKey"), "Rules: UrlAuthType NONE"),
        (changed("Parameters", "ApiKey", "AllowedPattern", to="^[A-Za-z0-9]*$"), "ApiKey: "),
        (removed("Parameters", "ApiKey", "NoEcho"), "ApiKey: is shown"),
        (changed(RESOURCES, "ServeRole", *FIRST_STATEMENT, "Resource", to="*"), "ServeRole: ['s3:ListBucket']"),
        (changed(RESOURCES, "TrainRole", *FIRST_STATEMENT, "Action", to="s3:*"), "TrainRole: ['s3:*']"),
        (
            changed(RESOURCES, "TrainRole", *FIRST_STATEMENT, "Resource", to={"Fn::Sub": "${Bucket.Arn}/*"}),
            "TrainRole: ['s3:ListBucket']",
        ),
        (changed(RESOURCES, "TrainRole", "Properties", "ManagedPolicyArns", to=["arn:aws:x"]), "TrainRole: managed"),
        (removed(RESOURCES, "Bucket", "DeletionPolicy"), "Bucket: goes with the stack"),
        (removed(*OF_BUCKET, "VersioningConfiguration"), "Bucket: is not versioned"),
        (removed(*OF_BUCKET, "BucketEncryption"), "Bucket: is not encrypted"),
        (changed(*OF_BUCKET, "PublicAccessBlockConfiguration", "BlockPublicPolicy", to=False), "Bucket: can be opened"),
        (changed(*OF_BUCKET, "LifecycleConfiguration", "Rules", to=[{"ExpirationInDays": 90}]), "Bucket: {None: 90}"),
        (removed(RESOURCES, "BucketPolicy"), "Bucket: answers without TLS"),
        (changed(*OF_SERVE, "Environment", "Variables", "S3_BUCKET", to="b"), "ServeFunction: S3_BUCKET is no setting"),
        (removed(*OF_SERVE, "Environment", "Variables", "TRAINER_FUNCTION_NAME"), "ServeFunction: does not know"),
        (removed(*OF_TRAIN, "EventInvokeConfig", "MaximumRetryAttempts"), "TrainFunction: is tried again"),
        (changed(*OF_TRAIN, "EventInvokeConfig", "MaximumEventAgeInSeconds", to=60), "TrainFunction: its events"),
        (removed(*OF_TRAIN, "EventInvokeConfig", "DestinationConfig"), "TrainFunction: loses the events"),
        (removed(RESOURCES, "DeadLetters", "Properties", "SqsManagedSseEnabled"), "DeadLetters: is not encrypted"),
        (removed(*OF_TRAIN, "Events"), "TrainFunction: is not told to score"),
        (
            changed(*OF_TRAIN, "Events", "Score", "Properties", "Input", to='{"task": "sc"}'),
            "TrainFunction: is not told",
        ),
        (changed("Parameters", "ScoreSchedule", "Default", to="rate(7 days)"), "ScoreSchedule: is not daily"),
    ],
)
def test_a_planted_mistake_is_found(plant: Callable[[Template], None], found: str) -> None:
    sound = read_template()
    broken = copy.deepcopy(sound)
    plant(broken)

    new = [mistake for mistake in mistakes(broken) if mistake not in mistakes(sound)]

    assert len(new) == 1
    assert new[0].startswith(found)


def test_both_functions_run_the_handler_that_the_images_name() -> None:
    template = read_template()

    command = [rest for name, rest in stage("Dockerfile", "function") if name == "CMD"]
    assert [ast.literal_eval(found) for found in command] == [["app.handler"]]
    assert callable(app.handler)
    for function in functions(template).values():
        assert function["PackageType"] == "Image"
        assert function["Architectures"] == ["x86_64"]
        assert "ImageConfig" not in function


def test_each_function_has_the_image_of_its_target() -> None:
    images = {name: found["ImageUri"] for name, found in functions(read_template()).items()}

    assert images == {"ServeFunction": {"Ref": "ServeImageUri"}, "TrainFunction": {"Ref": "TrainImageUri"}}
    assert stage("Dockerfile", "serve")
    assert stage("Dockerfile", "train")


def test_the_answer_to_a_training_comes_before_the_function_ends() -> None:
    template = read_template()

    waits = template["Parameters"]["TrainWaitSeconds"]
    assert max(float(waits["MaxValue"]), float(waits["Default"])) < functions(template)["ServeFunction"]["Timeout"]


def test_the_serving_role_may_do_what_the_trainer_is_invoked_with() -> None:
    template = read_template()

    statements = template["Resources"]["ServeRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    invoke = [one["Resource"] for one in statements if one["Action"] == "lambda:InvokeFunction"]
    assert invoke == [{"Fn::GetAtt": ["TrainFunction", "Arn"]}]
    assert training_event("id") == {"task": "train", "job_id": "id"}


def test_every_alarm_watches_something_of_this_stack_and_tells_where_there_is_an_address() -> None:
    alarms = resources(read_template(), "AWS::CloudWatch::Alarm")

    watched = {
        (one["Properties"]["MetricName"], str(one["Properties"]["Dimensions"][0]["Value"])) for one in alarms.values()
    }
    serve, train = str({"Ref": "ServeFunction"}), str({"Ref": "TrainFunction"})
    assert watched == {
        ("Errors", serve),
        ("Url5xxCount", serve),
        ("Throttles", serve),
        ("Duration", serve),
        ("Errors", train),
        ("ApproximateNumberOfMessagesVisible", str({"Fn::GetAtt": ["DeadLetters", "QueueName"]})),
    }
    for alarm in alarms.values():
        assert alarm["Properties"]["AlarmActions"]["Fn::If"][:2] == ["HasAlarmEmail", [{"Ref": "AlarmTopic"}]]
        assert alarm["Properties"]["TreatMissingData"] == "notBreaching"


def test_logs_have_an_end() -> None:
    logs = resources(read_template(), "AWS::Logs::LogGroup")

    assert len(logs) == 2
    for log in logs.values():
        assert log["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
        assert log["DeletionPolicy"] == "Delete"


def test_the_template_is_small_enough_to_be_sent_without_a_bucket() -> None:
    assert (ROOT / "deploy/template.yaml").stat().st_size < 51_200
