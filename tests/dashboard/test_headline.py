"""The first line, the counts and the events of a night, from rows alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nights import START_UTC_S, alive, cloudy_transmission, relation, series, sub

from nsgd.dashboard.events import Happening, events_of
from nsgd.dashboard.glance import Told
from nsgd.dashboard.headline import Tone, age, headline, say
from nsgd.dashboard.inert import fit, inert
from nsgd.dashboard.night import Kept, Night
from nsgd.records import Alert, CutOffs, SkyState, SubRow, Transform
from nsgd.session.alerts import AlarmState
from nsgd.session.sky import Sky
from nsgd.session.store import AlertRow, Changes, DaemonStatus, Delivery


def night_of(rows: list[SubRow], daemon: DaemonStatus | None = None, alerts: list[AlertRow] | None = None) -> Night:
    night = Night()
    numbered = [replace(row, sub_id=number) for number, row in enumerate(rows, start=1)]
    night.merge(Changes(1, numbered, [series()], alerts or [], daemon))
    return night


def clear_rows(subs: int = 30, **others: object) -> list[SubRow]:
    return [sub(i, START_UTC_S + 310.0 * i, 1.0, **others) for i in range(subs)]


def test_clear_cloudy_and_clear_again() -> None:
    lights = cloudy_transmission(60)
    rows = [sub(i, START_UTC_S + 310.0 * i, light) for i, light in enumerate(lights)]
    now_utc_s = rows[-1].order_utc_s + 200

    def word(last: int) -> str:
        night = night_of(rows[:last], alive(now_utc_s))
        return headline(night, night.newest_view(), rows[last - 1].order_utc_s + 200).word

    assert word(25) == "CLEAR"
    assert word(36) in ("CLOUDY", "NO STARS")
    assert word(60) == "CLEAR"


def test_an_old_sub_that_arrived_just_now_is_old() -> None:
    """A folder of last week's subs says nothing about the sky of now."""
    rows = clear_rows(30)
    now_utc_s = rows[-1].order_utc_s + 7 * 86400
    rows = [replace(row, arrived_utc_s=now_utc_s - 5) for row in rows]
    night = night_of(rows, alive(now_utc_s))
    line = headline(night, night.newest_view(), now_utc_s)
    assert line.note == "STALE"
    assert line.age_s > 6 * 86400


def test_the_tone_follows_the_state_and_a_dead_daemon() -> None:
    rows = clear_rows()
    now_utc_s = rows[-1].order_utc_s + 200
    night = night_of(rows, alive(now_utc_s))
    assert headline(night, night.newest_view(), now_utc_s).tone is Tone.GOOD
    night = night_of(rows, replace(alive(now_utc_s - 3000)))
    line = headline(night, night.newest_view(), now_utc_s)
    assert (line.note, line.tone) == ("DAEMON DOWN", Tone.WARN)
    night = night_of(rows, replace(alive(now_utc_s), stopped=True))
    assert headline(night, night.newest_view(), now_utc_s).note == "DAEMON STOPPED"


@pytest.mark.parametrize("width", [12, 20, 30, 46, 80, 200])
@pytest.mark.parametrize("plain", [False, True])
def test_the_line_fits_and_begins_with_the_state(width: int, plain: bool) -> None:
    rows = clear_rows()
    night = night_of(rows, alive(rows[-1].order_utc_s + 200))
    text = say(headline(night, night.newest_view(), rows[-1].order_utc_s + 200), width, plain=plain)
    assert len(text) <= width
    assert "CLEAR" in text[:10]
    assert text.isascii() or not plain


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (42.9, "42 s"),
        (240, "4 min"),
        (7500, "2 h 05"),
        (3 * 86400, "3 days"),
        (-5, "0 s"),
        (float("nan"), ""),
    ],
)
def test_ages_read_as_people_say_them(seconds: float, words: str) -> None:
    assert age(seconds) == words


def test_subs_that_come_late_change_or_move_are_judged_as_if_read_anew() -> None:
    rows = [replace(row, sub_id=number) for number, row in enumerate(clear_rows(30), start=1)]
    other = series(2, filter_name="OIII")
    moved = replace(rows[4], series_id=2)
    better = replace(rows[9], relation=relation(1.1, 1.2))
    live = Night()
    for some in (rows[10:], rows[:10], [replace(moved, series_id=1)], [moved, better]):
        live.merge(Changes(1, some, [series(), other], [], None))
    anew = Night()
    anew.merge(
        Changes(1, [better, moved, *[row for row in rows if row.sub_id not in (5, 10)]], [series(), other], [], None)
    )
    for series_id, subs in ((1, 29), (2, 1)):
        first, second = live.view(series_id), anew.view(series_id)
        assert first is not None
        assert second is not None
        assert first.shown.size == subs
        assert list(first.time_utc_s) == sorted(first.time_utc_s)
        assert [first.sub(at).path for at in first.shown] == [second.sub(at).path for at in second.shown]
        for name in ("transmission_clear", "weight_of_best", "stars", "fwhm_px"):
            assert list(first.column(name)) == pytest.approx(list(second.column(name)))
    assert live.count == 30
    assert live.path_of(5) == moved.path


@pytest.mark.parametrize("seen", [Sky(), Sky(state=SkyState.CLOUDY, transmission=0.4, last_utc_s=START_UTC_S)])
def test_the_first_line_reads_the_daemons_alarm_without_the_alarms_code(seen: Sky) -> None:
    told = Told.of(AlarmState(seen=seen).to_json())
    assert told.state is seen.state
    assert told.transmission == pytest.approx(seen.transmission, nan_ok=True)
    assert told.last_utc_s == pytest.approx(seen.last_utc_s, nan_ok=True)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"seen": 3}', '{"seen": {"state": "of another nsgd"}}'])
def test_an_alarm_that_cannot_be_read_is_unknown(text: str | None) -> None:
    assert Told.of(text).state is SkyState.UNKNOWN


def test_a_persons_decision_counts_in_what_is_kept() -> None:
    rows = clear_rows(20)
    rows[3] = replace(rows[3], decision="reject")
    view = night_of(rows).view(1)
    assert view is not None
    assert (view.kept().kept, view.kept().subs) == (19, 20)
    # A what-if with no cut-off at all keeps the decision.
    assert view.kept(CutOffs(0.0, 0.0, 0.0, 1.0)).kept == 19


def test_the_effective_time_counts_each_sub_by_its_worth() -> None:
    rows = clear_rows(20)
    half = relation(0.8, 0.49)
    rows[5:10] = [replace(row, relation=half) for row in rows[5:10]]
    view = night_of(rows).view(1)
    assert view is not None
    kept = view.kept()
    assert kept.taken_s == 20 * 300
    assert kept.effective_s == pytest.approx(15 * 300 + 5 * 300 * 0.5, rel=0.01)


def test_flip_filter_change_refocus_and_alerts_become_events() -> None:
    rows = clear_rows(40, fwhm_px=3.0)
    flipped = Transform(-1.0, 0.0, 0.0, -1.0, 6247.0, 4175.0)
    rows[20:] = [replace(row, transform=flipped, order_utc_s=row.order_utc_s + 900.0) for row in rows[20:]]
    rows[30:] = [replace(row, fwhm_px=2.2, order_utc_s=row.order_utc_s + 400.0) for row in rows[30:]]
    other = replace(sub(99, rows[10].order_utc_s - 20.0, 1.0), series_id=2)
    sent = Delivery("s1", "sent", 1, "", START_UTC_S)
    lost = Delivery("s1", "pending", 4, "refused", START_UTC_S)
    alerts = [
        AlertRow(1, "", Alert("a", "cloud", "Cloud", "", rows[12].order_utc_s), (sent,), 1),
        AlertRow(2, "", Alert("b", "dew", "Dew", "", rows[15].order_utc_s), (lost,), 1),
        AlertRow(3, "", Alert("a", "clear", "Clear", "", rows[18].order_utc_s, resolves=True), (sent,), 1),
    ]
    night = night_of(rows, alerts=alerts)
    night.merge(Changes(2, [replace(other, sub_id=99)], [series(2, filter_name="L")], [], None))
    view = night.view(1)
    assert view is not None
    events = events_of(night, view)
    assert [event.kind for event in events] == [
        Happening.FILTER, Happening.TOLD, Happening.UNTOLD, Happening.CLEAR, Happening.FLIP, Happening.FOCUS,
    ]  # fmt: skip
    assert "refused" in events[2].words


def test_interleaved_filters_are_no_events() -> None:
    rows = clear_rows(30)
    between = [replace(sub(100 + i, row.order_utc_s + 100, 1.0), series_id=2) for i, row in enumerate(rows)]
    night = night_of(rows)
    night.merge(Changes(2, [replace(row, sub_id=100 + i) for i, row in enumerate(between)], [series(2)], [], None))
    view = night.view(1)
    assert view is not None
    assert events_of(night, view) == ()


def test_names_lose_what_a_terminal_would_obey_and_fit_their_cells() -> None:
    assert inert("a\x1b[31mb\u202ec\u200bd\te\nf\x9bg") == "a[31mbcd e fg"
    assert inert("x" * 500, 20) == "x" * 19 + "…"
    assert inert("\udcff\ue000") == ""
    assert fit("表表表", 5) == "表表…"
    assert fit("abc", 6) == "abc   "


def test_exposures_that_no_file_states_are_unknown() -> None:
    assert Kept(17, 15, 0.0, 0.0).sentence() == "15 of 17 kept, exposure unknown"
    assert Kept(17, 15, 5100.0, 3000.0).sentence() == "15 of 17 kept, 50 min effective of 85 min"
