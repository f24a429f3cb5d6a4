"""What other programs are promised: the state as a whole file, a command on each change, MQTT, a heartbeat."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from nsgd.daemon.herald import Ears, Herald, ping, publish, run_hook, write_state
from nsgd.errors import BadRequest
from nsgd.session.alerts import AlarmState, report
from nsgd.settings import Alarm, Notify, Settings

CLEAR = {"state": "clear", "cause": "", "transmission": 0.98}
CLOUDY = {"state": "cloudy", "cause": "cloud", "transmission": None}


def until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "hook.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_state_file_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_state(path, report(AlarmState(), 0.0))
    assert json.loads(path.read_text())["state"] == "unknown"
    write_state(path, CLEAR)
    assert json.loads(path.read_text()) == CLEAR
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_the_hook_gets_the_state_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSGD_NOTIFY_URLS", "ntfys://secret")
    out = tmp_path / "out"
    command = script(tmp_path, f'echo "$NSGD_STATE|$NSGD_CAUSE|$NSGD_TRANSMISSION|$NSGD_NOTIFY_URLS|$1" > {out}')
    assert run_hook([command, "a; rm -rf b"], CLOUDY) == 0
    assert out.read_text() == "cloudy|cloud|||a; rm -rf b\n"


def test_a_hook_that_fails_or_is_missing_stops_nothing(tmp_path: Path) -> None:
    assert run_hook([script(tmp_path, "exit 5")], CLEAR) == 5
    assert run_hook([str(tmp_path / "missing")], CLEAR) == 127


def test_the_hook_runs_on_changes_only(tmp_path: Path) -> None:
    out = tmp_path / "out"
    herald = Herald(Ears(hook=(script(tmp_path, f'echo "$NSGD_STATE" >> {out}'),), state_file=tmp_path / "s.json"))
    for word in (CLEAR, CLEAR, CLOUDY, CLOUDY, CLEAR):
        herald.pass_on(dict(word))
    assert out.read_text().split() == ["clear", "cloudy", "clear"]


def test_the_thread_tells_the_newest_state_and_ends_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    herald = Herald(Ears(state_file=path))
    herald.start()
    herald.tell(CLEAR)
    assert until(path.exists)
    herald.tell(CLOUDY)
    herald.stop()
    assert not herald.is_alive()
    assert json.loads(path.read_text()) == CLOUDY


def test_a_state_file_that_cannot_be_written_is_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Herald(Ears(state_file=tmp_path / "missing" / "state.json")).pass_on(dict(CLEAR))
    assert "state_file cannot be written" in caplog.text


@pytest.fixture
def pinged() -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(500 if "bad" in self.path else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep still."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_the_heartbeat_goes_out_while_the_daemon_makes_progress_and_not_otherwise(
    pinged: tuple[str, list[str]],
) -> None:
    url, seen = pinged
    now = [1000.0]
    herald = Herald(Ears(heartbeat_url=f"{url}/uuid"), clock=lambda: now[0])
    herald.start()
    herald.tell(CLEAR)
    time.sleep(0.05)
    assert seen == []
    herald.beat()
    assert until(lambda: len(seen) == 1)
    now[0] += 100.0
    herald.beat()
    now[0] += 200.0
    herald.beat()
    assert until(lambda: len(seen) == 2)
    herald.stop()
    assert seen == ["/uuid", "/uuid"]


def test_a_heartbeat_without_an_answer_is_only_logged(
    pinged: tuple[str, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    url, _ = pinged
    assert ping(f"{url}/good")
    assert not ping(f"{url}/bad-secret")
    assert not ping("http://127.0.0.1:1/secret")
    assert not ping("file:///etc/passwd")
    assert "secret" not in caplog.text


def test_the_ears_are_those_of_the_settings(tmp_path: Path) -> None:
    notify = Notify(state_file=str(tmp_path / "s.json"), heartbeat_url=SecretStr("https://hc/1"))
    found = Ears.of(Settings(notify=notify, alarm=Alarm(on_change=("pause", "now"))))
    assert found == Ears(tmp_path / "s.json", ("pause", "now"), "", "https://hc/1")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        pytest.skip("mosquitto is not installed (Debian package mosquitto)")
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed (extra mqtt)")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with subprocess.Popen([program, "-c", str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        up = until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        assert up
        yield port
        process.terminate()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_state_is_published_and_kept_for_late_subscribers(broker: int) -> None:
    import paho.mqtt.client as mqtt

    assert publish(f"mqtt://127.0.0.1:{broker}/nsgd/sky", CLOUDY)
    got: list[bytes] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_message = lambda client, data, message: got.append(message.payload)
    client.connect("127.0.0.1", broker)
    client.subscribe("nsgd/sky")
    client.loop_start()
    assert until(lambda: bool(got))
    client.loop_stop()
    client.disconnect()
    assert json.loads(got[0]) == CLOUDY


def test_an_address_that_is_no_broker_is_a_clear_sentence() -> None:
    with pytest.raises(BadRequest, match="mqtt://"):
        publish("nonsense", CLEAR)
