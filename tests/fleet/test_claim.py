"""One message a site: the first rig tells, the others note it; nobody is silenced where the fleet is out of reach."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from private_postgres import Server
from rigs import DUSK_UTC_S, REPORT, new_store, publishing, wait_until

from nsgd.daemon.notify import Mailroom
from nsgd.fleet.claim import Desk, Teller
from nsgd.fleet.link import link
from nsgd.fleet.schema import add_rig
from nsgd.records import Alert

CLOUD = Alert("cloud-1", "cloud", "Cloud: 40 % of clear", "", DUSK_UTC_S, urgent=True, shared=True)
CLEAR = replace(CLOUD, kind="clear", resolves=True)


@pytest.fixture
def urls(fleet_url: str) -> list[str]:
    """Two rigs of one site, one of another."""
    with link(fleet_url) as connection:
        places = (("one", "north"), ("two", "north"), ("far", "south"))
        return [add_rig(connection, fleet_url, name, site) for name, site in places]


def age_claims(fleet_url: str, seconds: float) -> None:
    """Let time pass."""
    with link(fleet_url) as connection:
        connection.execute("UPDATE nsgd.claims SET claimed_at = claimed_at - make_interval(secs => %s)", (seconds,))


def test_the_first_rig_tells_for_its_site_and_a_dead_one_is_replaced(fleet_url: str, urls: list[str]) -> None:
    one, two, far = map(Desk, urls)
    assert one.ask(CLEAR) == Teller()  # nobody told a beginning: it is its own
    assert one.ask(CLOUD) == Teller()
    assert one.ask(CLOUD) == Teller()
    assert two.ask(CLOUD) == Teller("one", told=False)
    assert far.ask(CLOUD) == Teller()
    age_claims(fleet_url, 61.0)
    assert two.ask(CLOUD) == Teller()
    two.done()
    assert one.ask(CLOUD) == Teller("two", told=True)
    assert one.ask(CLEAR) == Teller()
    one.done()
    assert two.ask(CLEAR) == Teller("one", told=True)
    assert two.ask(CLOUD) == Teller()


def test_a_message_that_another_rig_told_is_dropped_and_an_outage_silences_nobody(
    server: Server, urls: list[str], tmp_path: Path
) -> None:
    letters = tmp_path / "letters"
    Desk(urls[0]).ask(CLOUD)
    Desk(urls[0]).done()
    with new_store(tmp_path / "store") as store:
        room = Mailroom(store, {"s1": f"file://{letters}"}, launch=lambda job: job())
        room.desk = Desk(urls[1])
        store.commit_alerts([CLOUD], ["s1"])
        room.turn(DUSK_UTC_S + 1.0)
        room.turn(DUSK_UTC_S + 2.0)
        assert [(d.state, d.error) for row in store.alerts() for d in row.deliveries] == [
            ("dropped", "rig one told it for the site")
        ]
        server.stop()
        try:
            assert room.desk.ask(replace(CLOUD, event_id="cloud-2")) == Teller()
        finally:
            server.start()


def test_a_rig_hears_how_its_neighbours_are(urls: list[str], tmp_path: Path) -> None:
    dim = {**REPORT, "loss": 0.4, "loss_err": 0.01, "last_sub_utc_s": 2e9, "cadence_s": 60.0}
    with (
        new_store(tmp_path / "one") as first,
        new_store(tmp_path / "two") as second,
        new_store(tmp_path / "far") as third,
        publishing(first, urls[0]) as one,
        publishing(second, urls[1]) as two,
        publishing(third, urls[2]) as far,
    ):
        one.tell(dim)
        wait_until(lambda: two.neighbours())
        assert [(n.loss, n.end_utc_s - n.begin_utc_s) for n in two.neighbours()] == [(0.4, 60.0)]
        assert not one.neighbours()
        assert not far.neighbours()
