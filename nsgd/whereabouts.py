"""Where settings file, store and fleet lie; settings are not checked here, so that it is known at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from nsgd.errors import BadSettings, NsgdError, StoreUnusable

ETC_FILE = Path("/etc/nsgd/config.toml")
SERVICE_STORE = Path("/var/lib/nsgd")


def xdg_config_file(environ: Mapping[str, str]) -> Path:
    """The user's own settings file, whether it exists or not."""
    base = environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "nsgd" / "config.toml"


def find_file(explicit: str | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The settings file to read: `--config`, $NSGD_CONFIG, the user's, then /etc/nsgd; None where there is none.

    Raises
    ------
    BadSettings
        A file named by option or environment does not exist.
    """
    for named, whence in ((explicit, "--config"), (environ.get("NSGD_CONFIG"), "$NSGD_CONFIG")):
        if named:
            path = Path(named).expanduser()
            if not path.is_file():
                raise BadSettings((f"{path}: no such file, but {whence} names it; `nsgd config init` writes one.",))
            return path
    return next((path for path in (xdg_config_file(environ), ETC_FILE) if path.is_file()), None)


def user_store(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's own store folder, whether it exists or not."""
    base = environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "nsgd"


def find_store(
    explicit: str | None, set_path: str, environ: Mapping[str, str] = os.environ, *, own: bool = False
) -> Path:
    """The store's folder: `--store`, the settings, else the user's own, else the service's.

    Parameters
    ----------
    set_path
        The setting `store.path`, "" where it is not set.
    own
        True for the daemon, which starts a store of the user's own where there is none; a reader then looks
        at the service's.

    Raises
    ------
    StoreUnusable
        Only the service's store exists, and this user may not read it.
    """
    for named in (explicit, set_path):
        if named:
            return Path(named).expanduser().absolute()
    mine = user_store(environ)
    if own:
        state = environ.get("STATE_DIRECTORY", "").split(":")[0]  # set by systemd for the service
        return Path(state) if state else mine
    if mine.is_dir() or not SERVICE_STORE.is_dir():
        return mine
    if not os.access(SERVICE_STORE, os.R_OK | os.X_OK):
        raise StoreUnusable(
            f"{SERVICE_STORE}, the store of the nsgd service, is for the group nsgd: run "
            "`sudo usermod -aG nsgd $USER` and log in again, or name another store with --store."
        )
    return SERVICE_STORE


def store_at_once(explicit: str | None, config: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folder that a reader finds, of settings that nobody has checked; None where that takes a check.

    Parameters
    ----------
    explicit, config
        What `--store` and `--config` say.
    """
    try:
        return find_store(explicit, "" if explicit else _set_path(find_file(config, environ)), environ)
    except (NsgdError, OSError, ValueError, TypeError, AttributeError, RuntimeError):
        return None  # whoever checks the settings says what is wrong


def _set_path(file: Path | None) -> str:
    if file is None:
        return ""
    import tomllib

    return str(tomllib.loads(file.read_text(encoding="utf-8")).get("store", {}).get("path", ""))


def is_local_database(url: str) -> bool:
    """Whether a PostgreSQL URL leads to a server on this machine: a loopback address, or a socket."""
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host", [parts.hostname or ""])[0]
    return host in ("", "localhost", "127.0.0.1", "::1") or host.startswith(("/", "%2F", "%2f"))


def database_fault(url: str) -> str:
    """What is wrong with a fleet's URL, without any part of it; "" where nothing is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("postgresql", "postgres") or not parts.username:
        return "must be a URL like postgresql://rig_name:password@host/database"
    sslmode = parse_qs(parts.query).get("sslmode", ["verify-full"])[0]
    if not is_local_database(url) and sslmode not in ("require", "verify-ca", "verify-full"):
        return "must ask for TLS: sslmode=verify-full (or verify-ca, require)"
    return ""
