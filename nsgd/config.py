"""Where settings come from: the TOML file, secrets, the command line.

One order for every setting: command line > environment (secrets only) > file > default. All problems are reported
at once, each with file, line, key and remedy. The example file is written from `settings` by `example_text`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from nsgd.errors import BadSettings
from nsgd.settings import Publish, Section, Settings
from nsgd.whereabouts import find_file

CREDENTIAL_NAME = "notify_urls"
PUBLISH_CREDENTIAL = "publish_url"
SECRET_KEYS = ("notify.urls", "notify.heartbeat_url", "notify.mqtt_url", "publish.url")


@dataclass(frozen=True)
class Loaded:
    """Settings, the file they were read from, and where each value came from."""

    settings: Settings
    file: Path | None
    origins: Mapping[str, str] = field(default_factory=dict)
    """`section.key` -> "config.toml line 12", "command line"...; a missing key means the default."""

    def origin(self, key: str) -> str:
        return self.origins.get(key, "default")


@dataclass(frozen=True)
class Knob:
    """One setting as documentation shows it."""

    section: str
    key: str
    default: Any
    example: Any
    bounds: str
    sentence: str

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"


# ------------------------------------------------------------------------------------------------- reading


def load(
    explicit: str | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read, check and merge all settings.

    Parameters
    ----------
    explicit
        The file named by `--config`.
    environ
        The environment; only NSGD_CONFIG, NSGD_NOTIFY_URLS, NSGD_PUBLISH_URL, CREDENTIALS_DIRECTORY and the XDG
        folders are read.
    flags
        `section.key` -> value given on the command line.

    Raises
    ------
    BadSettings
        With every problem found.
    """
    file = find_file(explicit, environ)
    return check_text(file, _text(file) if file else "", environ, flags)


def check_text(
    file: Path | None, text: str, environ: Mapping[str, str] = os.environ, flags: Mapping[str, Any] | None = None
) -> Loaded:
    """As `load`, for a text that is (or is to become) the content of a file."""
    tree = _parsed(file, text)
    origins = {key: f"{file} line {line_of(text, key)}" for key in _leaves(tree)}
    for key, value in (flags or {}).items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = value
        origins[key] = "command line"
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems = [_sentence(file, text, detail, tree) for detail in error.errors()]
        raise BadSettings((*problems, *_secret_file_problems(file, tree))) from None
    settings, secret_origin, secret_problems = _with_secrets(settings, file, environ)
    if secret_origin:
        origins["notify.urls"] = secret_origin
    settings, publish_origin, publish_problems = _with_fleet(settings, environ)
    if publish_origin:
        origins["publish.url"] = publish_origin
    secret_problems = [*_secret_file_problems(file, tree), *secret_problems, *publish_problems]
    problems = [*secret_problems, *_cross_problems(settings, file, text)]
    if problems:
        raise BadSettings(tuple(problems))
    return Loaded(settings, file, origins)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise BadSettings(
            (f"{file}: cannot be read ({error.strerror}); give yourself the right to, or name another with --config.",)
        ) from None
    except UnicodeDecodeError as error:
        raise BadSettings((f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8.",)) from None


def _parsed(file: Path | None, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        what = re.sub(r" \(at .*\)$", "", str(error))
        shown = _masked_line(text, line)
        raise BadSettings((f'{file} line {line}: {what}: {shown}; write key = "text" or key = ["a", "b"].',)) from None


def _masked_line(text: str, line: int) -> str:
    """The line for a message, without what may be a secret behind the equals sign."""
    lines = text.splitlines()
    shown = lines[line - 1].strip()[:80] if 0 < line <= len(lines) else "end of file"
    return re.sub(r"=.*", "= ...", shown) if re.search(r"url|://", shown) else shown


def _leaves(tree: Mapping[str, Any]) -> Iterator[str]:
    for section, values in tree.items():
        if isinstance(values, dict):
            yield from (f"{section}.{key}" for key in values)
        else:
            yield section


def line_of(text: str, key: str) -> int:
    """The line (1-based) of the TOML text that sets `section.key`, or the section's; 0 where it is not found."""
    section, _, name = key.partition(".")
    inside, section_line = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*[\"']?([^\]\"']+?)[\"']?\s*\]", line):
            inside = header[1]
            section_line = section_line or (number if inside == section else 0)
        elif entry := re.match(r"\s*[\"']?([^=\"'#]+?)[\"']?\s*=", line):
            dotted = f"{inside}.{entry[1]}" if inside else entry[1]
            if dotted == key or (not name and dotted == section):
                return number
    return section_line


# ------------------------------------------------------------------------------------------------- problems


def _sentence(file: Path | None, text: str, detail: ErrorDetails, tree: Mapping[str, Any]) -> str:
    """One pydantic error as the user's sentence: where, what is wrong, what to do."""
    loc = [str(part) for part in detail["loc"] if not isinstance(part, int)]
    key = ".".join(loc[:2])
    where = _where(file, text, key)
    if detail["type"] == "extra_forbidden":
        return f"{where}: {_unknown(loc, tree)}"
    shown = "" if key in SECRET_KEYS else f" = {to_toml(detail['input'])}"
    return f"{where}: {key}{shown} {_fault(detail)}{_default_hint(key)}"


def _where(file: Path | None, text: str, key: str) -> str:
    line = line_of(text, key)
    return f"{file} line {line}" if file and line else "command line"


def _fault(detail: ErrorDetails) -> str:
    if detail["type"] in ("tuple_type", "list_type"):
        return 'must be a list: write ["..."]'
    if detail["type"] == "string_pattern_mismatch":
        return 'must be a time like "22:30"'
    if detail["type"] in ("model_type", "dict_type"):
        return "must be a table: write [name] on a line of its own, then key = value"
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    said = detail["msg"].replace("Input should be", "must be")
    return said.split(",")[0] if detail["type"].endswith("_parsing") else said


def _default_hint(key: str) -> str:
    knob = next((knob for knob in knobs() if knob.name == key), None)
    if knob is None:
        return "."
    default = "not set" if knob.default is None else to_toml(knob.default)
    return f" (default {default}): {knob.sentence}"


def _unknown(loc: list[str], tree: Mapping[str, Any]) -> str:
    sections = tuple(Settings.model_fields)
    if len(loc) == 1:
        owner = next((knob.section for knob in knobs() if knob.key == loc[0]), "")
        if owner and not isinstance(tree.get(loc[0]), dict):
            return f"{loc[0]} belongs under [{owner}]; move the line there."
        return f"there is no section [{loc[0]}]; {_nearest(loc[0], sections)}"
    section, key = loc[0], loc[1]
    known = tuple(knob.key for knob in knobs() if knob.section == section)
    owner = next((knob.section for knob in knobs() if knob.key == key), "")
    if owner:
        return f"there is no setting {section}.{key}; it belongs under [{owner}]."
    return f"there is no setting {section}.{key}; {_nearest(key, known)}"


def _nearest(word: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."


def _secret_file_problems(file: Path | None, tree: Mapping[str, Any]) -> list[str]:
    """A file that holds secrets and that others can read is refused."""
    tables = {name: table for name, table in tree.items() if isinstance(table, dict)}
    split = {key: key.partition(".") for key in SECRET_KEYS}
    secrets = [key for key, (section, _, name) in split.items() if tables.get(section, {}).get(name)]
    return [_open_file_problem(file, secrets[0])] if file and secrets and readable_by_others(file) else []


def _open_file_problem(file: Path, what: str) -> str:
    return f"{file}: holds secrets ({what}), but others can read it; run `chmod 600 {file}`."


def readable_by_others(file: Path) -> bool:
    """True where group or others may read the file (POSIX only)."""
    return os.name == "posix" and bool(stat.S_IMODE(file.stat().st_mode) & 0o077)


def _cross_problems(settings: Settings, file: Path | None, text: str) -> list[str]:
    """Problems that show only when several settings, or the machine, are looked at."""
    problems = []
    alarm = settings.alarm
    if alarm.clear_above <= alarm.cloud_below:
        problems.append(
            f"{_where(file, text, 'alarm.clear_above')}: alarm.clear_above = {alarm.clear_above} must be above "
            f"alarm.cloud_below = {alarm.cloud_below}, or the alarm would flap; the defaults are 0.9 and 0.85."
        )
    if bool(alarm.quiet_from) != bool(alarm.quiet_to):
        missing = "quiet_to" if alarm.quiet_from else "quiet_from"
        given = "quiet_from" if alarm.quiet_from else "quiet_to"
        problems.append(f"{_where(file, text, f'alarm.{given}')}: alarm.{missing} is missing; quiet hours need both.")
    if settings.site.timezone and zone_of(settings) is None:
        problems.append(
            f"{_where(file, text, 'site.timezone')}: site.timezone = {to_toml(settings.site.timezone)} is no known "
            'time zone; write it like "Europe/Berlin" (`timedatectl list-timezones` lists them).'
        )
    for kind in ("dark", "flat", "bias"):
        master = getattr(settings.calibration, kind)
        if master and not Path(master).expanduser().is_file():
            problems.append(
                f"{_where(file, text, f'calibration.{kind}')}: calibration.{kind} = {to_toml(master)} does not exist; "
                "name the master frame, or leave it empty for files that are calibrated already."
            )
    return problems


def zone_of(settings: Settings) -> ZoneInfo | None:
    """The site's time zone; None means the system's (or an unknown name, which `load` refuses)."""
    try:
        return ZoneInfo(settings.site.timezone) if settings.site.timezone else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


# ------------------------------------------------------------------------------------------------- secrets


def _with_secrets(settings: Settings, file: Path | None, environ: Mapping[str, str]) -> tuple[Settings, str, list[str]]:
    """Settings with the notification URLs filled in, where they came from, and what is wrong with that place."""
    if from_environment := environ.get("NSGD_NOTIFY_URLS", "").split():
        return _with_urls(settings, from_environment), "environment NSGD_NOTIFY_URLS", []
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (given := Path(credentials) / CREDENTIAL_NAME).is_file() and (urls := _urls_in(given)):
        return _with_urls(settings, urls), f"credential {CREDENTIAL_NAME}", []
    if not settings.notify.urls_file:
        return settings, "", []
    path = Path(settings.notify.urls_file).expanduser()
    path = path if path.is_absolute() or file is None else file.parent / path
    if not path.is_file():
        return (
            settings,
            "",
            [f"{path}: no such file, but notify.urls_file names it; put one Apprise URL a line into it."],
        )
    if not os.access(path, os.R_OK):
        return settings, "", [f"{path}: cannot be read; run nsgd as the user who owns it."]
    if readable_by_others(path):
        return settings, "", [_open_file_problem(path, "notify.urls_file")]
    urls = [*(url.get_secret_value() for url in settings.notify.urls), *_urls_in(path)]
    return _with_urls(settings, urls), f"{path}", []


def _with_fleet(settings: Settings, environ: Mapping[str, str]) -> tuple[Settings, str, list[str]]:
    """Settings with the fleet's URL filled in, where it came from, and what is wrong with it."""
    url, origin = environ.get("NSGD_PUBLISH_URL", "").strip(), "environment NSGD_PUBLISH_URL"
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if not url and credentials and (given := Path(credentials) / PUBLISH_CREDENTIAL).is_file():
        url, origin = next(iter(_urls_in(given)), ""), f"credential {PUBLISH_CREDENTIAL}"
    if not url:
        return settings, "", []
    try:
        publish = Publish(url=SecretStr(url))
    except ValidationError as error:
        return settings, "", [f"{origin}: publish.url {_fault(detail)}." for detail in error.errors()]
    return settings.model_copy(update={"publish": publish}), origin, []


def _urls_in(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _with_urls(settings: Settings, urls: list[str]) -> Settings:
    notify = settings.notify.model_copy(update={"urls": tuple(SecretStr(url) for url in urls)})
    return settings.model_copy(update={"notify": notify})


# ------------------------------------------------------------------------------------------------- showing


def knobs() -> Iterator[Knob]:
    """Every setting in the order of `settings`, as the example file and the README show it."""
    for section, section_info in Settings.model_fields.items():
        model = section_info.annotation
        if not (isinstance(model, type) and issubclass(model, Section)):
            continue
        for key, info in model.model_fields.items():
            default = _plain(info.get_default())
            example = info.examples[0] if info.examples else default
            yield Knob(section, key, default, example, _bounds(info), info.description or "")


def _plain(value: Any) -> Any:
    """A value without its secret wrapping; only for defaults, which hold none."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _bounds(info: FieldInfo) -> str:
    limits = {name: getattr(part, name) for part in info.metadata for name in ("ge", "le") if hasattr(part, name)}
    if len(limits) == 2:
        return f"{limits['ge']:g} to {limits['le']:g}"
    words = getattr(info.annotation, "__args__", ())
    return " | ".join(words) if words and all(isinstance(word, str) for word in words) else ""


def to_toml(value: Any) -> str:
    """A value as TOML text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(to_toml(part) for part in value) + "]"
    if isinstance(value, int | float):
        return f"{value!r}"
    return json.dumps(str(value), ensure_ascii=False)


EXAMPLE_HEAD = """\
# Settings of nsgd. Every line is optional: nsgd works without this file. A line that starts with "#" shows the default.
# Read from --config, $NSGD_CONFIG, ~/.config/nsgd/config.toml, /etc/nsgd/config.toml: the first that exists.
# `nsgd config check` reads it through and names every problem at once.
"""


def example_text(answers: Mapping[str, Any] | None = None) -> str:
    """The settings file with every knob explained; `answers` (`section.key` -> value) are set, the rest is off."""
    answers = answers or {}
    lines, section = [EXAMPLE_HEAD.rstrip("\n")], ""
    for knob in knobs():
        if knob.section != section:
            section = knob.section
            lines += ["", f"[{section}]"]
        lines += ["", f"# {knob.sentence}{f' ({knob.bounds})' if knob.bounds else ''}"]
        if knob.default is None and knob.name not in answers:
            lines[-1] += " Not set by default."
        if knob.name in answers:
            lines.append(f"{knob.key} = {to_toml(answers[knob.name])}")
        else:
            lines.append(f"#{knob.key} = {to_toml(knob.example)}")
    filters = Settings.model_fields["filters"].description
    lines += ["", "[filters]", "", f"# {filters}", '#"Halpha 3nm" = "Ha"']
    return "\n".join(lines) + "\n"


def shown(loaded: Loaded) -> Iterator[tuple[str, str, str]]:
    """(`section.key`, value as TOML, where it came from) of every setting in force; secrets are masked."""
    for knob in knobs():
        value = getattr(getattr(loaded.settings, knob.section), knob.key)
        yield knob.name, _masked(knob.name, value), loaded.origin(knob.name)
    for ours, theirs in loaded.settings.filters.items():
        yield f"filters.{ours}", to_toml(theirs), loaded.origin(f"filters.{ours}")


def _masked(name: str, value: Any) -> str:
    if name == "notify.urls":
        return to_toml(["***"] * len(value))
    if isinstance(value, SecretStr):
        return '"***"' if value.get_secret_value() else '""'
    return "# not set" if value is None else to_toml(value)
