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
from typing import TYPE_CHECKING, Any

from nsgd.errors import BadSettings, NsgdError, StoreUnusable

if TYPE_CHECKING:
    from nsgd.dashboard.start import Terms


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
    command = [sys.executable, "-m", "nsgd.cli.apart", json.dumps([config, store])]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    @cache
    def terms() -> Terms:
        said, _ = child.communicate()
        return _understood(said)

    return terms


def _understood(said: bytes) -> Terms:
    from zoneinfo import ZoneInfo

    from nsgd.dashboard.start import Terms
    from nsgd.records import CutOffs

    try:
        words: dict[str, Any] = json.loads(said)
    except ValueError:
        raise NsgdError("The settings could not be read; `nsgd config check` says why.") from None
    if "problems" in words:
        raise BadSettings(tuple(words["problems"]))
    if "unusable" in words:
        raise StoreUnusable(words["unusable"])
    zone = ZoneInfo(words["zone"]) if words["zone"] else None
    return Terms(Path(words["store"]), CutOffs(**words["limits"]), zone)


def _words(config: str | None, store: str | None) -> dict[str, Any]:
    """What the settings say, or what is wrong with them."""
    from nsgd.config import find_store, load

    try:
        settings = load(config).settings
        folder = find_store(store, settings)
    except BadSettings as problem:
        return {"problems": problem.problems}
    except StoreUnusable as problem:
        return {"unusable": problem.sentence}
    return {"store": str(folder), "limits": settings.limits.model_dump(), "zone": settings.site.timezone}


if __name__ == "__main__":
    print(json.dumps(_words(*json.loads(sys.argv[1]))))  # noqa: T201
