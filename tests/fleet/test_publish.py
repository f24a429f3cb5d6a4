"""What a rig publishes arrives once, whatever the network and the server do, and nowhere but in its own rows."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from private_postgres import Server
from rigs import DUSK_UTC_S, REPORT, commit, new_store, publishing, sub, wait_until

from nsgd.config import check_text, shown
from nsgd.errors import BadSettings, FleetProblem
from nsgd.fleet.link import link
from nsgd.fleet.schema import add_rig, init
from nsgd.records import Alert

psycopg = pytest.importorskip("psycopg", reason="the extra `fleet` is not installed")


def rig(fleet_url: str, name: str, site: str = "north") -> str:
    with link(fleet_url) as connection:
        return add_rig(connection, fleet_url, name, site)


def rows(fleet_url: str, query: str, *args: object) -> list[tuple[object, ...]]:
    with link(fleet_url) as connection:
        return connection.execute(query.encode(), args).fetchall()


def count(fleet_url: str, table: str, name: str) -> int:
    return int(str(rows(fleet_url, f"SELECT count(*) FROM nsgd.{table} WHERE rig = %s", name)[0][0]))


def test_an_outage_loses_nothing_and_sends_nothing_twice(server: Server, fleet_url: str, tmp_path: Path) -> None:
    alert = Alert("cloud-1", "cloud", "Cloud: 40 % of clear", "", DUSK_UTC_S, urgent=True)
    url = rig(fleet_url, "one")
    with new_store(tmp_path) as store:
        with publishing(store, url) as publisher:
            for number in range(8):
                commit(store, sub(number))
            wait_until(lambda: count(fleet_url, "subs", "one") == 8)
            server.stop()
            commit(store, sub(8, 0.4), alert)
            publisher.tell({**REPORT, "state": "cloudy", "cause": "cloud", "event_told": True})
            commit(store, sub(9, 0.4))
            server.start()
            wait_until(lambda: count(fleet_url, "subs", "one") == 10)
            wait_until(lambda: rows(fleet_url, "SELECT state, alert FROM nsgd.rigs") == [("cloudy", "cloud")])
        with publishing(store, url):
            commit(store, sub(10))
            wait_until(lambda: count(fleet_url, "subs", "one") == 11)
    low = "SELECT file, status, round(transmission_clear::numeric, 2)::float8 FROM nsgd.subs WHERE transmission < 0.5"
    assert sorted(rows(fleet_url, low)) == [("M31_8.fits", "rejected", 0.4), ("M31_9.fits", "rejected", 0.4)]
    assert rows(fleet_url, "SELECT event_id, urgent FROM nsgd.alerts") == [("cloud-1", True)]


def test_a_fleet_that_was_made_anew_gets_everything_again(fleet_url: str, tmp_path: Path) -> None:
    url = rig(fleet_url, "again")
    with new_store(tmp_path) as store:
        commit(store, sub(0))
        with publishing(store, url):
            wait_until(lambda: count(fleet_url, "subs", "again") == 1)
        with link(fleet_url) as connection:
            connection.execute("DROP SCHEMA nsgd CASCADE")
            init(connection)
        url = rig(fleet_url, "again")
        with publishing(store, url):
            wait_until(lambda: count(fleet_url, "subs", "again") == 1)


def test_a_rig_writes_its_own_rows_alone_and_reads_all(fleet_url: str) -> None:
    mine = rig(fleet_url, "mine")
    rig(fleet_url, "other")
    with link(mine) as connection:
        assert connection.execute("SELECT count(*) FROM nsgd.rigs").fetchone() == (2,)
        assert connection.execute("UPDATE nsgd.rigs SET state = 'x' WHERE rig = 'other'").rowcount == 0
        for forbidden in (
            "INSERT INTO nsgd.alerts VALUES ('other', 'e', 'cloud', 1, '', '', '', true, false)",
            "INSERT INTO nsgd.claims (site, what, rig) VALUES ('north', 'cloud', 'other')",
            "INSERT INTO nsgd.claims (site, what, rig) VALUES ('elsewhere', 'cloud', 'mine')",
            "UPDATE nsgd.rigs SET site = 'elsewhere' WHERE rig = 'mine'",
            "DELETE FROM nsgd.rigs",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())


def test_a_second_init_changes_nothing_and_a_second_url_ends_the_first(fleet_url: str, server: Server) -> None:
    first = rig(fleet_url, "twice", "north")
    with link(fleet_url) as connection:
        assert init(connection) == 1
    second = rig(fleet_url, "twice", "south")
    assert rows(fleet_url, "SELECT rig, site FROM nsgd.rigs") == [("twice", "south")]
    link(second).close()
    with pytest.raises(FleetProblem, match="does not know this role and password") as caught:
        link(first)
    password = urlsplit(first).password
    assert password is not None
    assert password not in str(caught.value)
    assert password not in server.log
    assert urlsplit(second).password not in server.log


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://rig@db/nsgd", "must be a URL like postgresql://rig_name:password@host/database"),
        ("postgresql://rig:secret@db.example.org/nsgd?sslmode=disable", "must ask for TLS: sslmode=verify-full"),
    ],
)
def test_an_address_that_is_none_or_unsafe_is_refused_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(BadSettings) as caught:
        check_text(None, "", {"NSGD_PUBLISH_URL": url})
    assert said in caught.value.sentence
    assert "secret" not in caught.value.sentence


def test_the_address_comes_from_a_credential_and_is_masked(tmp_path: Path) -> None:
    (tmp_path / "publish_url").write_text("postgresql://rig_a:secret@db.example.org/nsgd\n", encoding="utf-8")
    loaded = check_text(None, "", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert loaded.settings.publish.url.get_secret_value() == "postgresql://rig_a:secret@db.example.org/nsgd"
    assert ("publish.url", '"***"', "credential publish_url") in list(shown(loaded))
