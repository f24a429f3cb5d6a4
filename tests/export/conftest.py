"""What the tests of several exports share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from live_night import LiveNight, live_night, night_truths
from registered_frames import RegisteredSet, cloudy_truths, registered_set


@pytest.fixture(scope="session")
def cloudy_set(tmp_path_factory: pytest.TempPathFactory) -> RegisteredSet:
    return registered_set(tmp_path_factory.mktemp("registered"), cloudy_truths(), border_px=12)


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> LiveNight:
    return live_night(tmp_path_factory.mktemp("night"), night_truths())


@pytest.fixture
def told() -> Callable[[int, int, str], None]:
    """A progress callback that insists on progress."""
    last = [0]

    def progress(done: int, total: int, what: str) -> None:
        assert last[0] <= done <= total
        assert what
        last[0] = done

    return progress
