"""What delivery promises: every alert arrives, at most once too often, on any network; secrets stay secret."""

from __future__ import annotations

import http.server
import json
import logging
import math
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path

import pytest

from nsgd.daemon.notify import (
    FORGET_S,
    Mailroom,
    Notifier,
    Outcome,
    Redaction,
    inert,
    kind_of,
    loud,
    plan,
    quiet_foreign_loggers,
    reachable,
    retry_after_s,
    secret_words,
    send,
    send_test,
    services,
    wait_s,
)
from nsgd.pictures import Caption, night_graph
from nsgd.records import Alert
from nsgd.session.store import OutboxRow

NOW = 1_795_300_000.0
CLOUD = Alert("cloud-1", "cloud", "Cloud: 43 % of clear", "Since 22:41.", NOW, urgent=True)
GONE = Alert("cloud-1", "clear", "Clear again: 98 % of clear", "Cloud from 22:41 to 23:10.", NOW + 1800, resolves=True)


class Server(http.server.ThreadingHTTPServer):
    """A notification server with a script: one behaviour a request, the last one for all that follow."""

    daemon_threads = True

    def __init__(self, *script: object) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = list(script)
        self.bodies: list[dict[str, object]] = []
        self.headers_seen: list[dict[str, str]] = []
        self.paths: list[str] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        """A service URL of the plain JSON kind."""
        return f"json://127.0.0.1:{self.server_port}/secretpath"

    def next_behaviour(self) -> object:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0] if self.script else 200


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.paths.append(self.path)
        self.server.headers_seen.append(dict(self.headers))
        try:
            self.server.bodies.append(json.loads(raw))
        except ValueError:
            self.server.bodies.append({"raw": len(raw)})
        behaviour = self.server.next_behaviour()
        if behaviour == "half":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 500\r\n\r\n{")
            return
        if behaviour == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if behaviour == "hang":
            time.sleep(2.0)
            return
        status, headers = behaviour if isinstance(behaviour, tuple) else (behaviour, {})
        self.send_response(int(status))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep still."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def nobody() -> tuple[str, int]:
    """A local port that refuses connections."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return "127.0.0.1", one.getsockname()[1]


@dataclass
class Box:
    """An outbox in memory."""

    rows: dict[int, OutboxRow] = field(default_factory=dict)
    done: dict[int, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def put(self, alert: Alert, *names: str) -> None:
        for name in names:
            number = len(self.rows) + 1
            self.rows[number] = OutboxRow(number, number, name, alert, 0, alert.created_utc_s, "")

    def due(self, now_utc_s: float) -> list[OutboxRow]:
        return [row for number, row in self.rows.items() if number not in self.done]

    def sent(self, outbox_id: int, now_utc_s: float) -> None:
        self.done[outbox_id] = "sent"

    def failed(self, outbox_id: int, now_utc_s: float, error: str, next_try_utc_s: float) -> None:
        self.errors.append(error)
        row = self.rows[outbox_id]
        self.rows[outbox_id] = replace(row, tries=row.tries + 1, next_try_utc_s=next_try_utc_s, error=error)

    def dropped(self, outbox_id: int, why: str) -> None:
        self.done[outbox_id] = f"dropped: {why}"


def room(box: Box, urls: dict[str, str]) -> Mailroom:
    """A mail room that sends at once, in this thread."""
    return Mailroom(box, urls, launch=lambda job: job(), rng=random.Random(1), now_line=lambda: "cloudy, 30 % of clear")


def turns(mailroom: Mailroom, now_utc_s: float, count: int = 4) -> None:
    for _ in range(count):
        mailroom.turn(now_utc_s)


def rows(*alerts: Alert) -> list[OutboxRow]:
    return [OutboxRow(i + 1, i + 1, "s1", alert, 0, alert.created_utc_s, "") for i, alert in enumerate(alerts)]


# --- one message ---------------------------------------------------------------------------------


def test_a_message_arrives_with_title_body_and_kind(server: Server) -> None:
    assert send(server.url, CLOUD) == Outcome(True)
    assert server.bodies[0]["title"] == "Cloud: 43 % of clear"
    assert server.bodies[0]["message"] == "Since 22:41."
    assert server.bodies[0]["type"] == "warning"
    assert send(server.url, GONE).ok
    assert server.bodies[1]["type"] == "success"


def test_a_picture_goes_along(server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "night.png"
    picture.write_bytes(night_graph([], [], Caption("Cloud")))
    assert send(server.url, CLOUD, picture).ok
    assert server.bodies[0]["attachments"]


def test_a_service_that_refuses_the_picture_still_gets_the_text(server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "night.png"
    picture.write_bytes(night_graph([], [], Caption("Cloud")))
    server.script = [413, 200]
    assert send(server.url, CLOUD, picture).ok
    assert not server.bodies[1]["attachments"]
    assert send(server.url, CLOUD, tmp_path / "gone.png").ok


@pytest.mark.parametrize(
    ("behaviour", "error"), [(500, "HTTP 500"), (403, "HTTP 403"), ("drop", "no answer"), ("half", "")]
)
def test_a_failed_try_says_why_without_the_url(server: Server, behaviour: object, error: str) -> None:
    server.script = [behaviour]
    outcome = send(server.url, CLOUD)
    if behaviour != "half":  # a server that said 200 has the message
        assert not outcome.ok
    assert error in outcome.error
    assert "secretpath" not in outcome.error


def test_a_refused_connection_is_told_apart_from_a_refused_message(nobody: tuple[str, int]) -> None:
    outcome = send(f"json://127.0.0.1:{nobody[1]}/x", CLOUD)
    assert not outcome.ok
    assert outcome.unreachable == nobody
    assert not reachable(nobody)


def test_a_server_that_hangs_is_given_up(server: Server) -> None:
    server.script = ["hang"]
    began = time.monotonic()
    assert not send(f"{server.url}?rto=0.3&cto=0.3", CLOUD).ok
    assert time.monotonic() - began < 1.5


def test_retry_after_is_read_in_both_forms(server: Server) -> None:
    server.script = [(429, {"Retry-After": "77"})]
    assert send(server.url, CLOUD, now_utc_s=NOW).retry_after_s == 77.0
    assert retry_after_s(formatdate(NOW + 30, usegmt=True), NOW) == pytest.approx(30.0, abs=1.0)
    assert retry_after_s("soon", NOW) is None
    assert retry_after_s("", NOW) is None


def test_an_unknown_url_is_a_failure_with_a_remedy() -> None:
    outcome = send("nonsense://x", CLOUD)
    assert not outcome.ok
    assert "nsgd notify list" in outcome.error


def test_waiting_doubles_up_to_five_minutes_and_honours_retry_after() -> None:
    rng = random.Random(4)
    waits = [wait_s(n, Outcome(False), rng) for n in range(1, 12)]
    assert 4.0 <= waits[0] <= 5.0
    assert all(wait <= 300.0 for wait in waits)
    assert waits[5] > 100.0
    assert wait_s(1, Outcome(False, retry_after_s=120.0), rng) >= 120.0
    assert wait_s(1, Outcome(False, retry_after_s=1e9), rng) <= 3601.0
    assert wait_s(10_000, Outcome(False), rng) <= 300.0


@pytest.mark.parametrize("url", [
    "ntfys://topic", "ntfy://host/topic", "gotify://host/AbCdEfGhIjKlMnO", "prowl://" + "a" * 40,
    "pover://" + "u" * 30 + "@" + "t" * 30, "join://" + "a" * 32 + "/device",
])  # fmt: skip
def test_urgent_alerts_sound_through_do_not_disturb_where_the_service_can(url: str) -> None:
    import apprise

    made = apprise.Apprise.instantiate(loud(url))
    plain = apprise.Apprise.instantiate(url)
    assert made.priority > plain.priority


def test_a_priority_of_the_user_is_left_alone() -> None:
    assert loud("ntfy://h/t?priority=low") == "ntfy://h/t?priority=low"
    assert loud("json://h/t") == "json://h/t"


def test_strings_from_headers_are_inert() -> None:
    assert inert("M31 @everyone\x1b[31m\x07") == "M31 ＠everyone [31m "


def test_the_test_message_gives_a_result_per_service(server: Server, nobody: tuple[str, int]) -> None:
    found = send_test(services([server.url, f"json://127.0.0.1:{nobody[1]}/x"]), NOW)
    assert found["s1"].ok
    assert not found["s2"].ok
    assert kind_of(server.url) == "json"


# --- what to say now -----------------------------------------------------------------------------


def test_a_fresh_alert_is_sent_as_it_is() -> None:
    (parcel,) = plan(rows(CLOUD), NOW + 10)
    assert parcel.alert == CLOUD


def test_an_event_that_is_over_is_told_once_by_its_all_clear() -> None:
    (parcel,) = plan(rows(CLOUD, GONE), NOW + 1900)
    assert parcel.alert.kind == "clear"
    assert (parcel.covers, parcel.overtaken) == ((2,), (1,))


def test_an_open_event_is_told_however_late_with_what_is_true_now() -> None:
    (parcel,) = plan(rows(CLOUD), NOW + 7200, "cloudy, 30 % of clear")
    assert parcel.alert.urgent
    assert parcel.alert.body.splitlines()[0] == "Now: cloudy, 30 % of clear"
    assert "Sent late" in parcel.alert.body


def test_old_events_become_one_message() -> None:
    stories = [replace(GONE, event_id=f"cloud-{n}", created_utc_s=NOW + 60 * n) for n in range(5)]
    parcels = plan(rows(*stories), NOW + 9000)
    assert len(parcels) == 1
    assert parcels[0].alert.title == "5 events while messages could not be sent"
    assert len(parcels[0].covers) == 5


def test_the_urgent_goes_first() -> None:
    calm = Alert("night-1", "dawn", "Night", "", NOW - 5)
    assert [parcel.alert.kind for parcel in plan(rows(calm, CLOUD), NOW)] == ["cloud", "dawn"]


# --- the mail room -------------------------------------------------------------------------------


def test_only_the_service_that_failed_is_tried_again(server: Server) -> None:
    bad = Server(500, 200)
    box = Box()
    box.put(CLOUD, "s1", "s2")
    mailroom = room(box, {"s1": server.url, "s2": bad.url})
    turns(mailroom, NOW)
    turns(mailroom, NOW + 30)
    bad.shutdown()
    bad.server_close()
    assert (len(server.bodies), len(bad.bodies)) == (1, 2)
    assert box.done == {1: "sent", 2: "sent"}
    assert box.errors == ["HTTP 500"]


def test_nothing_is_tried_before_its_time(server: Server) -> None:
    server.script = [(429, {"Retry-After": "100"}), 200]
    box = Box()
    box.put(CLOUD, "s1")
    mailroom = room(box, {"s1": server.url})
    turns(mailroom, NOW)
    turns(mailroom, NOW + 90)
    assert len(server.bodies) == 1
    turns(mailroom, NOW + 102)
    assert box.done == {1: "sent"}


def test_first_message_and_all_clear_carry_the_same_event_in_their_titles(server: Server) -> None:
    box = Box()
    mailroom = room(box, {"s1": server.url})
    box.put(CLOUD, "s1")
    turns(mailroom, NOW)
    box.put(GONE, "s1")
    turns(mailroom, NOW + 1800)
    assert [str(body["title"]).split("[")[1] for body in server.bodies] == ["cloud-1]", "cloud-1]"]


def test_after_a_two_hour_outage_the_open_event_is_told_within_a_minute_and_nothing_stale(
    nobody: tuple[str, int],
) -> None:
    box = Box()
    mailroom = room(box, {"s1": f"json://127.0.0.1:{nobody[1]}/x"})
    now = NOW
    for minute in range(120):
        if minute in (0, 30):
            box.put(replace(CLOUD, event_id=f"cloud-{minute}", created_utc_s=now), "s1")
        if minute in (20,):
            box.put(replace(GONE, event_id="cloud-0", created_utc_s=now), "s1")
        now += 60.0
        mailroom.turn(now)
    assert not box.done
    back = http.server.ThreadingHTTPServer.__new__(Server)
    back.script, back.bodies, back.headers_seen, back.paths = [200], [], [], []
    http.server.ThreadingHTTPServer.__init__(back, nobody, _Handler)
    threading.Thread(target=back.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    returned = now
    while len(box.done) < 3 and now < returned + 300:
        now += min(mailroom.turn(now), 5.0)
        if len(back.bodies) == 1:
            first_after_s = now - returned
    back.shutdown()
    back.server_close()
    assert first_after_s <= 60.0
    titles = [str(body["title"]) for body in back.bodies]
    assert "cloud-30" in titles[0]
    assert len(titles) == 2
    assert box.done[1].startswith("dropped: over before")


def test_a_service_that_left_the_settings_gets_nothing_and_day_old_messages_are_dropped(server: Server) -> None:
    box = Box()
    box.put(CLOUD, "s9")
    box.put(replace(CLOUD, created_utc_s=NOW - FORGET_S - 1), "s1")
    turns(room(box, {"s1": server.url}), NOW)
    assert not server.bodies
    assert [why.split(":")[0] for why in box.done.values()] == ["dropped", "dropped"]


def test_a_reply_that_was_lost_brings_at_most_one_duplicate(server: Server) -> None:
    server.script = ["drop", 200]
    box = Box()
    box.put(CLOUD, "s1")
    mailroom = room(box, {"s1": server.url})
    turns(mailroom, NOW)
    turns(mailroom, NOW + 30)
    turns(mailroom, NOW + 3000)
    assert len(server.bodies) == 2


def test_a_picture_that_cannot_be_drawn_does_not_stop_the_message(server: Server) -> None:
    def broken(alert: Alert) -> Path:
        raise OSError("disk full")

    box = Box()
    box.put(CLOUD, "s1")
    mailroom = room(box, {"s1": server.url})
    mailroom.picture = broken
    turns(mailroom, NOW)
    assert box.done == {1: "sent"}


def test_the_thread_delivers_at_once_and_a_hung_service_delays_no_other(server: Server) -> None:
    slow = Server("hang")
    box = Box()
    notifier = Notifier(Mailroom(box, {"s1": f"{slow.url}?rto=1.5", "s2": server.url}), clock=lambda: NOW)
    notifier.start()
    box.put(CLOUD, "s1", "s2")
    began = time.monotonic()
    notifier.wake()
    while 2 not in box.done and time.monotonic() - began < 5.0:
        time.sleep(0.01)
    notifier.stop()
    slow.shutdown()
    slow.server_close()
    assert box.done == {2: "sent"}
    assert time.monotonic() - began < 1.2
    assert not notifier.is_alive()


def test_an_outbox_that_cannot_be_read_is_tried_again() -> None:
    class Broken(Box):
        def due(self, now_utc_s: float) -> list[OutboxRow]:
            raise OSError("gone")

    notifier = Notifier(Mailroom(Broken(), {}), clock=lambda: NOW)
    notifier.start()
    notifier.stop()
    assert not notifier.is_alive()


# --- secrets -------------------------------------------------------------------------------------

CANARIES = (
    "ntfys://TopicCanary123",
    "json://user:PassCanary456@127.0.0.1:9/HookCanary789?x=y",
    "tgram://123456789:TokenCanary_ABCDEFGHIJKLMNOPQRSTUVWX/987654321",
)


def test_no_log_at_any_level_shows_a_url(caplog: pytest.LogCaptureFixture, nobody: tuple[str, int]) -> None:
    quiet_foreign_loggers()
    caplog.set_level(logging.DEBUG)
    url = f"json://user:PassCanary456@127.0.0.1:{nobody[1]}/HookCanary789"
    box = Box()
    box.put(CLOUD, "s1")
    turns(room(box, {"s1": url}), NOW)
    assert "s1: no answer" in caplog.text
    assert "Canary" not in caplog.text
    assert not any("Canary" in error for error in box.errors)


def test_the_redaction_hides_every_part_of_a_url() -> None:
    filter_ = Redaction(CANARIES)
    for url in CANARIES:
        for word in secret_words(url):
            record = logging.LogRecord("x", logging.ERROR, "f", 1, "before %s after", (word,), None)
            assert filter_.filter(record)
            assert "Canary" not in record.getMessage()
            assert record.getMessage().startswith("before ")


def test_the_redaction_cleans_tracebacks() -> None:
    try:
        raise ValueError("https://example.org/HookCanary789")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "broke", (), (type(error), error, error.__traceback__))
    Redaction(CANARIES).filter(record)
    assert record.exc_text
    assert "Canary" not in record.exc_text
    assert Redaction(()).filter(record)


def test_the_outbox_is_asked_for_everything_so_that_an_outage_can_be_summed_up() -> None:
    asked: list[float] = []

    class Asked(Box):
        def due(self, now_utc_s: float) -> list[OutboxRow]:
            asked.append(now_utc_s)
            return []

    assert room(Asked(), {}).turn(NOW) > 60.0
    assert asked == [math.inf]
