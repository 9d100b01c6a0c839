"""The name of a model is part of the training's request: a browser that is closed loses nothing."""

import json

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Open, wait_until_loaded

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "alias"), [("calm", "calm"), ("", None)])
def test_the_request_has_the_name(server: str, visit: Open, name: str, alias: str | None) -> None:
    requested: list[dict[str, object]] = []

    def refuse(route: Route) -> None:
        requested.append(json.loads(route.request.post_data or ""))
        route.fulfill(status=429, json={"code": "too_many_trainings", "title": "Too many trainings", "detail": "no"})

    page = visit(server)
    wait_until_loaded(page)
    page.route("**/models/train", refuse)
    form = page.locator("#train-form")

    form.get_by_label("Name").fill(name)
    form.get_by_role("button", name="Train").click()

    expect(page.locator("#train-body .problem")).to_contain_text("Too many trainings")
    assert [one.get("alias") for one in requested] == [alias]
    assert "name" not in requested[0]
