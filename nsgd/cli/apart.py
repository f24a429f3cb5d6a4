"""The settings as a dashboard needs them, read by a process of its own while the screen opens.

Reading and checking them takes longer than all else on the way to the first screen, and twice the memory of a night of
subs; the process ends when it has told its few words.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from nsgd.errors import BadRequest, BadSettings, NsgdError, StoreUnusable

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from nsgd.dashboard.start import FleetTerms, Terms


def terms_apart(config: str | None, store: str | None) -> Callable[[], Terms]:
    """Begin to read the settings; what is returned waits for them, once.

    Parameters
    ----------
    config, store
        What `--config` and `--store` say.

    Raises
    ------
    BadSettings, StoreUnusable
        When called: the settings are wrong, or only a store that this user may not read exists.
    """
    words = _words_apart("store", config, store)

    @cache
    def terms() -> Terms:
        from nsgd.dashboard.start import Terms
        from nsgd.records import CutOffs

        said = words()
        return Terms(Path(said["store"]), CutOffs(**said["limits"]), _zone(said))

    return terms


def fleet_apart(config: str | None, url: str) -> FleetTerms:
    """Read the settings for a fleet's view, which waits for them where it needs them.

    Parameters
    ----------
    config
        What `--config` says.
    url
        The fleet's database; "" for the one of the settings.

    Raises
    ------
    BadSettings, BadRequest
        When one of the terms is asked for: the settings are wrong, or name no fleet.
    """
    from nsgd.dashboard.start import FleetTerms

    # With a URL they are not wanted before the rigs are on the screen, and would only take time from that.
    words = cache(lambda: _words_apart("fleet", config, None))
    if not url:
        words()

    def its_url() -> str:
        if found := url or str(words()()["url"]):
            return found
        raise BadRequest("Which fleet? Give its URL, or set publish.url (README, Many rigs).")

    return FleetTerms(its_url, lambda: _zone(words()()))


def _zone(said: dict[str, Any]) -> ZoneInfo | None:
    from zoneinfo import ZoneInfo

    return ZoneInfo(said["zone"]) if said["zone"] else None


def _words_apart(of: str, config: str | None, store: str | None) -> Callable[[], dict[str, Any]]:
    """Begin to read what the settings say of the store or the fleet; what is returned waits for it."""
    command = [sys.executable, "-m", "nsgd.cli.apart", json.dumps([of, config, store])]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    waiting = Lock()

    @cache
    def said() -> bytes:
        return child.communicate()[0]

    def words() -> dict[str, Any]:
        with waiting:  # threads may ask at once, and the child tells it once
            return _understood(said())

    return words


def _understood(said: bytes) -> dict[str, Any]:
    try:
        words: dict[str, Any] = json.loads(said)
    except ValueError:
        raise NsgdError("The settings could not be read; `nsgd config check` says why.") from None
    if "problems" in words:
        raise BadSettings(tuple(words["problems"]))
    if "unusable" in words:
        raise StoreUnusable(words["unusable"])
    return words


def _words(of: str, config: str | None, store: str | None) -> dict[str, Any]:
    """What the settings say, or what is wrong with them."""
    from nsgd.config import load
    from nsgd.whereabouts import find_store

    try:
        settings = load(config).settings
        zone = settings.site.timezone
        if of == "fleet":
            return {"url": settings.publish.url.get_secret_value(), "zone": zone}
        folder = find_store(store, settings.store.path)
    except BadSettings as problem:
        return {"problems": problem.problems}
    except StoreUnusable as problem:
        return {"unusable": problem.sentence}
    return {"store": str(folder), "limits": settings.limits.model_dump(), "zone": zone}


if __name__ == "__main__":
    print(json.dumps(_words(*json.loads(sys.argv[1]))))  # noqa: T201
