"""`nsgd config`: write, check and show the settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from nsgd.cli.messages import understood
from nsgd.cli.places import common_options, given, load_settings, talk
from nsgd.errors import BadRequest, BadSettings


@click.group()
@common_options
def config() -> None:
    """Write, check and show the settings.

    \b
    Example: nsgd config init
    """


@config.command()
@click.option("--folder", "folders", multiple=True, metavar="DIR", help="Capture folder; may be given several times.")
@click.option("--urls-file", metavar="FILE", help="File with one Apprise URL a line (URLs are secrets).")
@click.option("--timezone", metavar="ZONE", help='Such as "Europe/Berlin"; default: the system\'s.')
@click.option("--sensitivity", metavar="calm|normal|keen", help="When the phone rings.")
@click.option("--force", is_flag=True, help="Replace a settings file that exists.")
@common_options
def init(
    folders: tuple[str, ...], urls_file: str | None, timezone: str | None, sensitivity: str | None, force: bool
) -> None:
    """Write a settings file: asks four questions, or takes the answers as options.

    \b
    Example: nsgd config init
             nsgd config init --folder ~/Lights --urls-file ~/.config/nsgd/urls --timezone Europe/Berlin
    """
    from nsgd.config import check_text, example_text

    path = _file_to_write()
    if path.exists() and not force:
        raise BadRequest(f"{path} exists; change it with an editor, or replace it with --force.")
    flags = {
        "watch.folders": [_absolute(folder) for folder in folders],
        "notify.urls_file": _absolute(urls_file) if urls_file else "",
        "site.timezone": timezone,
        "alarm.sensitivity": sensitivity,
    }
    answers = {key: value for key, value in flags.items() if value} or _asked()
    text = example_text(answers)
    check_text(None, text, {})
    _write_private(path, text)
    talk(
        f"Wrote {path}. Next: `nsgd notify test` rings your phone, `nsgd doctor` looks at the rest, `nsgd run` starts."
    )


def _file_to_write() -> Path:
    from nsgd.whereabouts import xdg_config_file

    named = given("config") or os.environ.get("NSGD_CONFIG")
    return Path(named).expanduser().absolute() if named else xdg_config_file(os.environ)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _asked() -> dict[str, Any]:
    """The four questions; without a terminal there is nobody to ask, and the defaults stand."""
    if not sys.stdin.isatty():
        return {}
    import secrets

    topic = f"nsgd-{secrets.token_hex(8)}"
    questions = {
        "watch.folders": "Folder that your capture program writes into (empty: name it with `nsgd run FOLDER`)",
        "notify.urls": (
            f"For alerts, ntfy needs no account: install its app, subscribe to {topic}, and answer ntfy://{topic}\n"
            "Apprise URL of your phone's service (empty: no alerts)"
        ),
        "site.timezone": "Time zone, such as Europe/Berlin (empty: the system's)",
        "alarm.sensitivity": "Ring for deep cloud only (calm), normal, or also for thin cloud (keen) (empty: normal)",
    }
    answers = {key: _answer(key, question) for key, question in questions.items()}
    return {key: value for key, value in answers.items() if value}


def _answer(key: str, question: str) -> Any:
    """Ask until the answer can be used; nothing is an answer too."""
    from nsgd.config import check_text, example_text

    while True:
        text: str = click.prompt(question, default="", show_default=False, err=True).strip()
        value: Any = _list_answer(key, text) if key in ("watch.folders", "notify.urls") else text
        if not value:
            return value
        if key == "notify.urls" and not understood(text):
            talk("Apprise does not understand this URL; the README's table shows what it looks like for each service.")
            continue
        try:
            check_text(None, example_text({key: value}), {})
        except BadSettings as error:
            talk(error.sentence)
        else:
            return value


def _list_answer(key: str, text: str) -> list[str]:
    if not text:
        return []
    return [_absolute(text) if key == "watch.folders" else text]


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read: it may hold secrets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        path.chmod(0o600)
        stream.write(text)


@config.command()
@common_options
def check() -> None:
    """Read the settings and name every problem at once: file, line, key, remedy. Exit code 78 if there is one.

    \b
    Example: nsgd config check
    """
    loaded = load_settings()
    click.echo(f"{loaded.file or 'no settings file, all defaults'}: fine, {len(loaded.origins)} set.")
    for folder in loaded.settings.watch.folders:
        if not Path(folder).expanduser().is_dir():
            talk(f"warning: watch.folders: {folder} does not exist now; nsgd waits for it.")


@config.command()
@click.option("--origin", is_flag=True, help="Also say where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@common_options
def show(origin: bool, as_json: bool) -> None:
    """Print the settings in force; secrets are masked.

    \b
    Example: nsgd config show --origin
    """
    import json

    from nsgd.config import shown

    lines = list(shown(load_settings()))
    if as_json:
        click.echo(json.dumps({name: {"value": value, "origin": whence} for name, value, whence in lines}, indent=1))
        return
    for name, value, whence in lines:
        click.echo(f"{name} = {value}" + (f"  # {whence}" if origin else ""))


@config.command()
@common_options
def path() -> None:
    """Print the settings file in use, or where it would lie.

    \b
    Example: nsgd config path
    """
    from nsgd.whereabouts import find_file

    found = find_file(given("config"))
    click.echo(found or _file_to_write())
    if found is None:
        talk("There is no settings file yet; `nsgd config init` writes one there.")
