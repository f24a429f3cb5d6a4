"""`--store` and `--config`, accepted before and after every command, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nsgd.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsgd.config import Loaded
    from nsgd.session.store import Reader

Command = TypeVar("Command", bound=Callable[..., Any])
MOST = 4000
"""Longest line that is printed."""


def _remember(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """Keep the innermost value given; both options are shared by all commands."""
    if value is not None and option.name:
        context.find_root().ensure_object(dict)[option.name] = value


def common_options(command: Command) -> Command:
    """Add `--store` and `--config` to a command or group."""
    for name, text in (
        ("--config", "Settings file instead of the usual places."),
        ("--store", "Folder of the store instead of the usual place."),
    ):
        option = click.option(name, metavar="PATH", expose_value=False, callback=_remember, help=text)
        command = option(command)
    return command


def given(name: str) -> str | None:
    """What `--store` or `--config` says in this command line."""
    found = click.get_current_context().find_root().ensure_object(dict).get(name)
    return None if found is None else str(found)


def load_settings(flags: Mapping[str, Any] | None = None) -> Loaded:
    """Settings as the command line, environment and file say. Raises BadSettings."""
    from nsgd.config import load

    return load(given("config"), flags=flags)


def store_folder(*, own: bool = False) -> Path:
    """The store that this command works on; `own` is for the daemon, which may start one."""
    from nsgd.whereabouts import find_store

    return find_store(given("store"), load_settings().settings.store.path, own=own)


@contextmanager
def open_reader() -> Iterator[Reader]:
    """The store, for reading. Raises StoreProblem with a clear sentence where there is none."""
    from nsgd.session.store import Reader

    with Reader.open(store_folder()) as reader:
        yield reader


def existing_folder(text: str) -> Path:
    """The absolute path of a folder given on the command line. Raises BadRequest where there is none."""
    path = Path(text).expanduser().resolve()
    if not path.exists():
        raise BadRequest(f"{text} does not exist; check the spelling, or mount the share first.")
    if not path.is_dir():
        raise BadRequest(f"{text} is a file; name the folder.")
    return path


def say(*cells: object) -> None:
    """One line of data on stdout, cells apart by tabs; what headers and file names hold is made harmless."""
    from nsgd.dashboard.inert import inert

    click.echo("\t".join(inert(str(cell), MOST) for cell in cells))


def talk(sentence: str) -> None:
    """Say something to the person, on stderr: stdout is for data."""
    from nsgd.dashboard.inert import inert

    click.echo("\n".join(inert(line, MOST) for line in sentence.split("\n")), err=True)
