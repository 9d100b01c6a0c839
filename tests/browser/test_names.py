"""The name of a model is part of the training's request: a browser that is closed loses nothing."""

import json

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Open, eventually, wait_until_loaded

pytestmark = pytest.mark.slow


def test_the_request_has_the_name_if_there_is_one(server: str, visit: Open) -> None:
    requested: list[dict[str, object]] = []

    def refuse(route: Route) -> None:
        requested.append(json.loads(route.request.post_data or ""))
        route.fulfill(status=429, json={"code": "too_many_trainings", "title": "Too many trainings", "detail": "no"})

    page = visit(server)
    wait_until_loaded(page)
    page.route("**/models/train", refuse)
    form = page.locator("#train-form")

    form.get_by_label("Name").fill("calm")
    form.get_by_role("button", name="Train").click()
    expect(page.locator("#train-body .problem")).to_contain_text("Too many trainings")
    form.get_by_label("Name").fill("")
    form.get_by_role("button", name="Train").click()
    eventually(page, lambda: len(requested) == 2)

    assert [one.get("alias") for one in requested] == ["calm", None]
    assert not any("name" in one for one in requested)
