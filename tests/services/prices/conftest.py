from collections.abc import Iterator

import pytest

from tests.yahoo_server import YahooServer, running_yahoo


@pytest.fixture
def yahoo() -> Iterator[YahooServer]:
    with running_yahoo() as server:
        yield server
