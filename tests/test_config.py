"""Settings are found in one order, and every problem is named at once with file, line, key and remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsgd import config, whereabouts
from nsgd.errors import BadSettings, StoreUnusable
from nsgd.settings import Settings

ENVIRON = {"XDG_CONFIG_HOME": "/nonexistent", "HOME": "/nonexistent"}


@pytest.fixture
def settings_file(tmp_path: Path):
    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return write


def problems_of(path: Path, **more: object) -> tuple[str, ...]:
    with pytest.raises(BadSettings) as caught:
        config.load(str(path), ENVIRON, **more)  # type: ignore[arg-type]
    return caught.value.problems


def test_without_a_file_everything_is_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whereabouts, "ETC_FILE", Path("/nonexistent/config.toml"))
    loaded = config.load(None, ENVIRON)
    assert loaded.settings == Settings()
    assert loaded.file is None
    assert loaded.origin("watch.poll_s") == "default"


def test_search_order_is_option_environment_user_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: tmp_path / name / "nsgd" / "config.toml" for name in ("option", "env", "user", "etc")}
    for file in files.values():
        file.parent.mkdir(parents=True)
        file.write_text("", encoding="utf-8")
    monkeypatch.setattr(whereabouts, "ETC_FILE", files["etc"])
    environ = {"NSGD_CONFIG": str(files["env"]), "XDG_CONFIG_HOME": str(tmp_path / "user")}
    assert whereabouts.find_file(str(files["option"]), environ) == files["option"]
    assert whereabouts.find_file(None, environ) == files["env"]
    del environ["NSGD_CONFIG"]
    assert whereabouts.find_file(None, environ) == files["user"]
    files["user"].unlink()
    assert whereabouts.find_file(None, environ) == files["etc"]
    files["etc"].unlink()
    assert whereabouts.find_file(None, environ) is None


@pytest.mark.parametrize(("explicit", "environ"), [("/no/such.toml", {}), (None, {"NSGD_CONFIG": "/no/such.toml"})])
def test_a_named_file_that_is_missing_is_an_error_not_the_default(
    explicit: str | None, environ: dict[str, str]
) -> None:
    with pytest.raises(BadSettings, match=r"/no/such\.toml: no such file, .* `nsgd config init` writes one"):
        config.load(explicit, environ)


def test_all_problems_are_named_at_once_with_line_and_remedy(settings_file) -> None:
    path = settings_file(
        "[watch]\npol_s = 5\nrescan_s = 0.1\nfolders = '/data'\n\n[limits]\npoll_s = 3\n\n[alrm]\nper_hour = 2\n"
        "\n[alarm]\nsensitivity = 'loud'\nquiet_from = '25:00'\nper_night = 'many'\n"
    )
    problems = problems_of(path)
    assert len(problems) == 8
    text = "\n".join(problems)
    assert f"{path} line 2: there is no setting watch.pol_s; did you mean poll_s?" in text
    assert f"{path} line 3: watch.rescan_s = 0.1 must be greater than or equal to 1 (default 60.0)" in text
    assert f'{path} line 4: watch.folders = "/data" must be a list: write ["..."]' in text
    assert f"{path} line 7: there is no setting limits.poll_s; it belongs under [watch]." in text
    assert f"{path} line 9: there is no section [alrm]; did you mean alarm?" in text
    assert f"{path} line 13: alarm.sensitivity = \"loud\" must be 'calm', 'normal' or 'keen'" in text
    assert f'{path} line 14: alarm.quiet_from = "25:00" must be a time like "22:30"' in text
    assert f'{path} line 15: alarm.per_night = "many" must be a valid integer' in text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("poll_s = 5\n", "line 1: poll_s belongs under [watch]; move the line there."),
        ("watch = 3\n", "line 1: watch = 3 must be a table"),
        ('[watch]\nfolders = ["/a]\n', "line 2: Illegal character"),
        ("[watch\n", "line 1: Expected ']' at the end of a table declaration: [watch; write key"),
        ("[watch]\nfolders = \n", "line 2: Invalid value"),
        ("[alarm]\nclear_above = 0.5\n", "alarm.clear_above = 0.5 must be above alarm.cloud_below = 0.85"),
        ("[alarm]\nquiet_from = '22:00'\n", "line 2: alarm.quiet_to is missing; quiet hours need both."),
        ("[site]\ntimezone = 'Mars/Base'\n", 'site.timezone = "Mars/Base" is no known time zone; write it like'),
        ("[site]\ntimezone = '../../etc/passwd'\n", "is no known time zone"),
        ("[calibration]\ndark = '/no/dark.fits'\n", 'calibration.dark = "/no/dark.fits" does not exist; name the'),
        (
            "[notify]\nurls_file = '/no/urls'\n",
            "/no/urls: no such file, but notify.urls_file names it; put one Apprise",
        ),
        ("[filters]\nHa = 3\n", "line 2: filters.Ha = 3 must be a valid string"),
    ],
)
def test_each_mistake_has_its_sentence(settings_file, text: str, sentence: str) -> None:
    assert any(sentence in problem for problem in problems_of(settings_file(text)))


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"[watch]\n# \xff\n")
    assert problems_of(path) == (f"{path}: byte 10 is not UTF-8; save the file as UTF-8.",)


def test_a_secret_never_appears_in_a_problem(settings_file) -> None:
    for text in (
        "[notify]\nurls = 'ntfy://canary-topic'\n",
        "[notify]\nurls = ['ntfy://canary-topic'\n",
        "[notify]\nheartbeat_url = ['https://canary-topic']\n",
        "[notify]\nheartbeat_ur = 'https://canary-topic'\n",
    ):
        assert "canary" not in "\n".join(problems_of(settings_file(text)))


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize("key", ["urls = ['ntfy://topic']", "mqtt_url = 'mqtt://host'", "heartbeat_url = 'https://x'"])
def test_a_file_with_secrets_that_others_can_read_is_refused(settings_file, key: str) -> None:
    for mode in (0o644, 0o640, 0o604):
        problems = problems_of(settings_file(f"[notify]\n{key}\n", mode))
        assert len(problems) == 1
        assert "others can read it; run `chmod 600" in problems[0]
    assert config.load(str(settings_file(f"[notify]\n{key}\n", 0o600)), ENVIRON)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_file_without_secrets_may_be_read_by_all(settings_file) -> None:
    assert config.load(str(settings_file("[watch]\npoll_s = 2\n", 0o644)), ENVIRON).settings.watch.poll_s == 2


def urls(loaded: config.Loaded) -> list[str]:
    return [url.get_secret_value() for url in loaded.settings.notify.urls]


def test_secrets_come_from_environment_then_credential_then_file(settings_file, tmp_path: Path) -> None:
    urls_file = tmp_path / "urls"
    urls_file.write_text("# phone\nntfy://from-urls-file\n\n", encoding="utf-8")
    urls_file.chmod(0o600)
    path = settings_file("[notify]\nurls = ['ntfy://from-file']\nurls_file = 'urls'\n")
    assert urls(config.load(str(path), ENVIRON)) == ["ntfy://from-file", "ntfy://from-urls-file"]
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    environ = ENVIRON | {"CREDENTIALS_DIRECTORY": str(credentials)}
    (credentials / "notify_urls").touch()
    assert len(urls(config.load(str(path), environ))) == 2, "an empty credential is none"
    (credentials / "notify_urls").write_text("ntfy://credential\n", encoding="utf-8")
    assert urls(config.load(str(path), environ)) == ["ntfy://credential"]
    environ["NSGD_NOTIFY_URLS"] = "ntfy://one  json://two"
    loaded = config.load(str(path), environ)
    assert urls(loaded) == ["ntfy://one", "json://two"]
    assert loaded.origin("notify.urls") == "environment NSGD_NOTIFY_URLS"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_urls_file_that_others_can_read_is_refused(settings_file, tmp_path: Path) -> None:
    (tmp_path / "urls").write_text("ntfy://topic\n", encoding="utf-8")
    (tmp_path / "urls").chmod(0o644)
    assert "chmod 600" in problems_of(settings_file("[notify]\nurls_file = 'urls'\n"))[0]


def test_no_other_setting_is_taken_from_the_environment() -> None:
    environ = ENVIRON | {"NSGD_WATCH__POLL_S": "3", "NSGD_POLL_S": "3", "POLL_S": "3"}
    assert config.load(None, environ).settings.watch.poll_s == Settings().watch.poll_s


def test_the_command_line_wins_over_the_file_and_is_checked_too(settings_file) -> None:
    path = settings_file("[watch]\nfolders = ['/a']\npoll_s = 2\n")
    loaded = config.load(str(path), ENVIRON, {"watch.folders": ["/b"]})
    assert loaded.settings.watch.folders == ("/b",)
    assert loaded.origin("watch.folders") == "command line"
    assert loaded.origin("watch.poll_s") == f"{path} line 3"
    assert problems_of(path, flags={"measure.workers": -1})[0].startswith("command line: measure.workers = -1 must be")


def test_the_printed_settings_mask_every_secret(settings_file) -> None:
    path = settings_file(
        "[notify]\nurls = ['ntfy://canary']\nheartbeat_url = 'https://canary'\nmqtt_url = 'mqtt://canary'\n"
    )
    loaded = config.load(str(path), ENVIRON)
    lines = [f"{name} = {value}" for name, value, _ in config.shown(loaded)]
    assert "canary" not in "\n".join(lines) + repr(loaded)
    assert 'notify.urls = ["***"]' in lines
    assert 'notify.mqtt_url = "***"' in lines


def test_the_store_is_found_without_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = tmp_path / "service"
    monkeypatch.setattr(whereabouts, "SERVICE_STORE", service)
    environ = {"XDG_STATE_HOME": str(tmp_path / "state")}
    mine = tmp_path / "state" / "nsgd"
    assert whereabouts.find_store(None, "", environ) == mine
    service.mkdir()
    assert whereabouts.find_store(None, "", environ) == service
    assert whereabouts.find_store(None, "", environ, own=True) == mine
    mine.mkdir(parents=True)
    assert whereabouts.find_store(None, "", environ) == mine
    named = str(tmp_path / "named")
    assert whereabouts.find_store(None, named, environ) == tmp_path / "named"
    assert whereabouts.find_store(str(tmp_path / "option"), named, environ) == tmp_path / "option"


def test_the_store_is_known_before_the_settings_are_checked(settings_file, tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    right = str(settings_file('store.path = "~/named"\nwatch.folders = 3\n'))
    assert whereabouts.store_at_once(None, right, environ) == Path("~/named").expanduser()
    assert whereabouts.store_at_once(str(tmp_path), right, environ) == tmp_path
    for wrong in ("store = 3", "not TOML", "store.path = ["):
        assert whereabouts.store_at_once(None, str(settings_file(wrong)), environ) is None
    assert whereabouts.store_at_once(None, "/nonexistent.toml", environ) is None


def test_the_service_keeps_its_store_where_systemd_says(tmp_path: Path) -> None:
    environ = {"STATE_DIRECTORY": str(tmp_path), "XDG_STATE_HOME": "/nonexistent"}
    assert whereabouts.find_store(None, "", environ, own=True) == tmp_path


def test_a_user_outside_the_group_gets_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whereabouts, "SERVICE_STORE", tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreUnusable, match=r"is for the group nsgd: run `sudo usermod -aG nsgd \$USER`"):
        whereabouts.find_store(None, "", {"XDG_STATE_HOME": "/nonexistent"})
