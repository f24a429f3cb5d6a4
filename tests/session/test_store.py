"""The night's memory: exact, whole or not at all, readable while written."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsgd.errors import BadRequest, StoreDamaged, StoreLocked, StoreProblem, StoreUnusable, StoreUnwritable
from nsgd.records import (
    NAN,
    Alert,
    Catalogue,
    Failure,
    FrameKind,
    HeaderFacts,
    Relation,
    SeriesRow,
    SubFacts,
    SubRow,
    Transform,
)
from nsgd.session import store as store_module
from nsgd.session.blobs import from_bytes, pack, to_bytes, unpack
from nsgd.session.place import FolderLock, filesystem_of, is_network
from nsgd.session.store import (
    DATABASE,
    DaemonStatus,
    FolderStatus,
    Reader,
    Store,
    SubCommit,
    add_request,
)

NOW = 1_790_000_000.0


def header(number: int = 0) -> HeaderFacts:
    return HeaderFacts(
        object_name="M 31",
        filter_name="Ha",
        exposure_s=60.0,
        start_utc_s=NOW + 60.0 * number + 0.1,
        mid_utc_s=NOW + 60.0 * number + 30.1,
        time_source="DATE-OBS",
        camera="ASI2600MM",
        width_px=6248,
        height_px=4176,
        gain=100.0,
        offset=50.0,
        egain_e_per_adu=0.25,
        ccd_temp_c=-10.0 - number / 97,
        airmass=1.0 + number / 1001,
        ra_deg=10.684,
        dec_deg=41.27,
        software="N.I.N.A. 3.1",
        noise_keys=(1.5, 2.5),
    )


def relation(number: int = 0) -> Relation:
    return Relation(
        solution=1,
        reference_id=1,
        zero=(1.0 / 3.0 + number,),
        zero_err=(0.003,),
        scale=(1.01,),
        scale_err=(0.003,),
        weight=(0.9,),
        stars_used=412,
        star_scatter=0.02,
        star_floor=0.001,
        pattern="uniform",
        pattern_rms=0.002,
        pattern_map=(0.1, 0.2, 0.3, 0.4, 0.5),
        gradient_x_adu=1.5,
        gradient_y_adu=NAN,
        gradient_rms_adu=0.7,
        gradient_diagonal_adu=(0.5, -0.5),
    )


def facts(rng: np.random.Generator, stars: int = 1000, nodes: int = 300, channels: int = 1) -> SubFacts:
    flux = rng.normal(1000, 300, (stars, channels)).astype(np.float32)
    flux[::7] = np.nan
    return SubFacts(
        recipe=1,
        calibration="",
        generation=1,
        transform=Transform(a=0.999, tx=3.25, quad=(1e-7, 0, 0, 0, 0, 2e-7), half_px=3000.0),
        stars_matched=stars - 3,
        stars_expected=stars,
        stars_detected=2 * stars,
        residual_px=0.0771,
        false_match_log10=-40.5,
        flux=flux,
        flux_err=np.abs(flux) / 50,
        flags=rng.integers(0, 64, stars).astype(np.uint8),
        flux_common_err=(0.001,) * channels,
        node_sky=rng.normal(500, 10, (nodes, channels)).astype(np.float32),
        node_fraction=rng.random(nodes).astype(np.float32),  # as the first stores have it; now float16
        noise_adu=(12.5,) * channels,
        sky_adu=(500.25,) * channels,
        fwhm_px=3.21,
        ellipticity=0.11,
        elongation_deg=NAN,
        background_rms_adu=1.5,
    )


def catalogue(rng: np.random.Generator, generation: int = 1, stars: int = 50) -> Catalogue:
    return Catalogue(
        generation=generation,
        width_px=6248,
        height_px=4176,
        channels=("L",),
        x=rng.random(stars),
        y=rng.random(stars),
        flux=rng.random((stars, 1)).astype(np.float32),
        flags=np.zeros(stars, np.uint8),
        fwhm_px=3.0,
        node_x=rng.random(9),
        node_y=rng.random(9),
        node_half_px=32.0,
        mask_x=rng.random(0),
        mask_y=rng.random(0),
        mask_radius_px=rng.random(0),
        stars_detected=200,
        recipe=1,
    )


def sub_row(number: int = 0, **values: object) -> SubRow:
    row = SubRow(
        sub_id=0,
        content_id=f"content-{number}",
        series_id=1,
        stream="60s g100",
        folder="/captures",
        path=f"/captures/M31_{number}.fits",
        gone=False,
        header=header(number),
        session="2026-09-21",
        arrived_utc_s=NOW + 60.0 * number + 62.0,
        order_utc_s=NOW + 60.0 * number + 30.1,
        order_flag="",
        failure=None,
        measure_s=0.71,
        generation=1,
        transform=Transform(tx=1.0 / 3.0),
        stars_matched=400,
        stars_expected=420,
        stars_detected=900,
        residual_px=0.08,
        noise_adu=(12.5,),
        sky_adu=(500.0,),
        fwhm_px=3.2,
        ellipticity=0.1,
        background_rms_adu=1.0,
        relation=relation(number),
    )
    return replace(row, **values)  # type: ignore[arg-type]


SERIES = SeriesRow(
    series_id=0,
    key="m31|ha",
    object_name="M 31",
    filter_name="Ha",
    camera="ASI2600MM",
    binning=1,
    width_px=6248,
    height_px=4176,
    channels=("L",),
    reference_id=1,
    reference_chosen=False,
    smoothness=-2.0,
    limits={},
    generation=1,
    solution=1,
)
FIRST_SERIES = replace(SERIES, series_id=1)
ALERT = Alert("e1", "cloud", "Cloud", "Transmission fell to 0.7", NOW, urgent=True)


def same_arrays(one: object, two: object) -> bool:
    """Whether two records are equal bit for bit, dtypes included."""
    for item in fields(one):  # type: ignore[arg-type]
        a, b = getattr(one, item.name), getattr(two, item.name)
        if isinstance(a, np.ndarray):
            if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
                return False
        elif repr(a) != repr(b):
            return False
    return True


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", NOW) as opened:
        yield opened


def commit(store: Store, number: int = 0, rng: np.random.Generator | None = None, **values: object) -> int:
    known = store.series()
    made = SubCommit(
        row=sub_row(number, **values),
        facts=facts(rng, 20, 9) if rng else None,
        catalogue=None,
        series=FIRST_SERIES if known else SERIES,
    )
    return store.commit_sub(made, stamp=(100, 5))


# exactness


@pytest.mark.parametrize("channels", [1, 3])
def test_facts_come_back_bit_for_bit(store: Store, rng: np.random.Generator, channels: int) -> None:
    kept = facts(rng, channels=channels)
    sub_id = store.commit_sub(SubCommit(sub_row(), kept, catalogue(rng), SERIES))
    read = store.facts(sub_id)
    assert read is not None
    assert same_arrays(kept, read)


def test_facts_of_a_thousand_stars_take_less_than_20_kb(rng: np.random.Generator) -> None:
    assert len(to_bytes(facts(rng))) < 20_000


def test_catalogues_come_back_bit_for_bit_and_the_newest_generation_wins(
    store: Store, rng: np.random.Generator
) -> None:
    first, second = catalogue(rng), catalogue(rng, generation=2)
    store.commit_sub(SubCommit(sub_row(0), None, first, SERIES))
    read = store.catalogue(1)
    assert read is not None
    assert same_arrays(first, read)
    store.commit_sub(SubCommit(sub_row(1), None, second, FIRST_SERIES))
    read = store.catalogue(1)
    assert read is not None
    assert same_arrays(second, read)
    assert store.catalogue(2) is None


def test_rows_come_back_exactly(store: Store) -> None:
    row = sub_row(3, failure=Failure("no_match", "5 stars matched, 6 needed", {"stars": 5, "share": 0.1}))
    sub_id = store.commit_sub(SubCommit(row, None, None, SERIES))
    read = store.sub(sub_id)
    assert repr(read) == repr(replace(row, sub_id=sub_id, series_id=1, change=read.change))
    assert repr(store.series()) == repr([replace(FIRST_SERIES, change=read.change)])


def test_missing_figures_stay_missing(store: Store) -> None:
    row = SubRow(
        0, "c", 0, "", "/f", "/f/x.fits", False, HeaderFacts(kind=FrameKind.OTHER), "", NOW, NOW, "", None, 0.0
    )
    read = store.sub(store.commit_sub(SubCommit(row, None, None, None)))
    assert np.isnan(read.fwhm_px)
    assert read.relation is None
    assert read.failure is None
    assert read.header == row.header


@settings(max_examples=60, deadline=None)
@given(st.floats(), st.floats(), st.text(max_size=30))
def test_any_float_and_text_of_a_record_survives(one: float, two: float, text: str) -> None:
    kept = replace(header(), gain=one, noise_keys=(two, one), object_name=text, exposure_s=two)
    assert repr(unpack(HeaderFacts, pack(kept))) == repr(kept)


def test_names_that_are_no_text_survive(store: Store) -> None:
    path = os.fsdecode(b"/captures/\xff\xfe M31\n.fits")
    sub_id = commit(store, path=path)
    store.stamp(path, 100, 5)
    store.note_unreadable(path + "2", "no text: \udcff")
    assert store.sub(sub_id).path == path
    assert store.seen(path, 100, 5)
    assert store.unreadable()[0].path == path + "2"


def test_fields_that_a_newer_program_wrote_are_left_out() -> None:
    assert unpack(HeaderFacts, '{"object_name":"M 31","from_the_future":5}') == HeaderFacts(object_name="M 31")


def test_bytes_of_another_format_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(StoreDamaged):
        from_bytes(SubFacts, b"NSGD9" + to_bytes(facts(rng))[5:])


# order and lookups


def test_subs_come_in_exposure_order_and_equal_times_in_name_order(store: Store) -> None:
    for number, time_s, name in ((0, 30.0, "b"), (1, 10.0, "sub_10"), (2, 10.0, "sub_9"), (3, 20.0, "c")):
        commit(store, number, order_utc_s=time_s, path=f"/captures/{name}.fits")
    assert [Path(row.path).stem for row in store.subs()] == ["sub_9", "sub_10", "c", "b"]
    assert [row.sub_id for row in store.subs(series_id=1, session="2026-09-21")] == [3, 2, 4, 1]
    assert store.subs(series_id=2) == []


def test_facts_are_iterated_in_the_order_of_subs(store: Store, rng: np.random.Generator) -> None:
    for number, time_s in ((0, 30.0), (1, 10.0), (2, 20.0)):
        if number == 2:
            commit(store, number, relation=None, failure=Failure("no_stars", "No stars."), order_utc_s=time_s)
        else:
            commit(store, number, rng, order_utc_s=time_s)
    assert [sub_id for sub_id, _ in store.iter_facts([row.sub_id for row in store.subs(1)])] == [2, 1]


def test_a_sub_is_found_by_path_end_of_path_name_or_stem(store: Store) -> None:
    sub_id = commit(store, 5)
    commit(store, 6)
    for text in ("/captures/M31_5.fits", "captures/M31_5.fits", "M31_5.fits", "M31_5"):
        assert [row.sub_id for row in store.find_sub(text)] == [sub_id]
    assert store.find_sub("M31_7.fits") == []
    with pytest.raises(BadRequest, match="99"):
        store.sub(99)


def test_known_content_is_recognised_whatever_its_path(store: Store) -> None:
    sub_id = commit(store, 1)
    assert store.known("content-1") == sub_id
    assert store.known("content-2") is None
    store.mark_gone(["/captures/M31_1.fits"])
    assert store.sub(sub_id).gone
    store.moved(sub_id, "/captures/BAD_M31_1.fits")
    assert (store.sub(sub_id).path, store.sub(sub_id).gone) == ("/captures/BAD_M31_1.fits", False)


def test_a_sub_that_lies_in_two_places_is_gone_only_with_both(store: Store) -> None:
    sub_id = commit(store, 1)
    store.moved(sub_id, "/backup/M31_1.fits")
    store.moved(sub_id, "/captures/M31_1.fits")
    store.mark_gone(["/captures/M31_1.fits"])
    assert (store.sub(sub_id).path, store.sub(sub_id).gone) == ("/backup/M31_1.fits", False)
    store.mark_gone(["/backup/M31_1.fits"])
    assert store.sub(sub_id).gone
    store.moved(sub_id, "/backup/M31_1.fits")
    assert not store.sub(sub_id).gone


def test_one_of_two_places_overwritten_leaves_the_other(store: Store) -> None:
    sub_id = commit(store, 1)
    store.moved(sub_id, "/captures/copy.fits")
    other = commit(store, 2, path="/captures/copy.fits")
    assert not store.sub(other).gone
    assert (store.sub(sub_id).path, store.sub(sub_id).gone) == ("/captures/M31_1.fits", False)


def test_a_sub_whose_file_was_overwritten_is_gone(store: Store) -> None:
    first = commit(store, 1)
    second = commit(store, 2, path="/captures/M31_1.fits")
    assert (store.sub(first).gone, store.sub(second).gone) == (True, False)
    store.moved(first, "/captures/M31_1.fits")
    assert (store.sub(first).gone, store.sub(second).gone) == (False, True)


def test_old_sessions_are_forgotten_but_not_their_reference(store: Store, rng: np.random.Generator) -> None:
    for number, night in ((0, "2026-09-01"), (1, "2026-09-01"), (2, "2026-09-20")):
        commit(store, number, rng, session=night)
    store.commit_alerts([ALERT], ["s1"], session="2026-09-01")
    assert store.forget("2026-09-20") == 1
    assert [row.sub_id for row in store.subs()] == [1, 3]
    assert store.facts(2) is None
    assert store.alerts() == []
    assert store.due(NOW) == []


def test_committing_the_same_sub_twice_leaves_one_row(store: Store, rng: np.random.Generator) -> None:
    sub_id = commit(store, 1, rng)
    again = store.sub(sub_id)
    assert store.commit_sub(SubCommit(again, facts(rng, 5, 4), None, FIRST_SERIES)) == sub_id
    assert len(store.subs()) == 1


def test_ids_can_be_told_beforehand(store: Store) -> None:
    expected = store.next_sub_id(), store.next_series_id()
    sub_id = commit(store)
    assert (sub_id, store.series()[0].series_id) == expected


def test_other_relations_change_in_the_same_commit(store: Store) -> None:
    first = commit(store, 0)
    second = store.commit_sub(SubCommit(sub_row(1), None, None, FIRST_SERIES, ((first, relation(9)),)))
    assert store.sub(first).relation == relation(9) or repr(store.sub(first).relation) == repr(relation(9))
    assert store.sub(first).change == store.sub(second).change


def test_decisions_limits_and_relations_are_kept(store: Store) -> None:
    sub_id = commit(store)
    store.decide(sub_id, "reject")
    changed = replace(FIRST_SERIES, limits={"transmission": 0.5}, reference_id=sub_id, reference_chosen=True)
    store.commit_relations(changed, [(sub_id, relation(4))])
    assert store.sub(sub_id).decision == "reject"
    assert repr(store.sub(sub_id).relation) == repr(relation(4))
    assert store.series()[0].limits == {"transmission": 0.5}


def test_ignored_and_unreadable_files_are_counted_once(store: Store) -> None:
    for _ in range(2):
        store.count_ignored("/c/dark_1.fits", "dark")
        store.count_ignored("/c/dark_2.fits", "dark")
        store.count_ignored("/c/flat.fits", "flat")
        store.note_unreadable("/c/broken.fits", "The header has no END.")
    assert store.ignored() == {"dark": 2, "flat": 1}
    assert [item.sentence for item in store.unreadable()] == ["The header has no END."]
    store.stamp("/c/dark_1.fits", 10, 20)
    assert store.seen("/c/dark_1.fits", 10, 20)
    assert not store.seen("/c/dark_1.fits", 11, 20)
    assert store.ignored() == {"dark": 2, "flat": 1}


# changes


def test_changes_tell_each_touch_once(store: Store) -> None:
    reader = Reader.open(store.folder)
    assert reader.changes_since(0).subs == []
    first = commit(store, 0)
    seen = reader.changes_since(0)
    assert [row.sub_id for row in seen.subs] == [first]
    assert len(seen.series) == 1
    assert reader.changes_since(seen.last).subs == []
    touches = (
        lambda: store.decide(first, "accept"),
        lambda: store.commit_relations(FIRST_SERIES, [(first, relation(2))]),
        lambda: store.mark_gone(["/captures/M31_0.fits"]),
        lambda: store.moved(first, "/captures/new.fits"),
    )
    for touch in touches:
        touch()
        changed = reader.changes_since(seen.last)
        assert [row.sub_id for row in changed.subs] == [first]
        assert changed.last > seen.last
        seen = changed
    store.commit_alerts([ALERT], ["s1"])
    changed = reader.changes_since(seen.last)
    assert [row.alert.event_id for row in changed.alerts] == ["e1"]
    store.sent(changed.alerts[0].deliveries and 1, NOW)
    assert reader.changes_since(changed.last).alerts[0].deliveries[0].state == "sent"
    reader.close()


def test_a_reader_holds_no_transaction_between_calls(store: Store) -> None:
    commit(store)
    with Reader.open(store.folder) as reader:
        reader.changes_since(0)
        reader.subs()
        # A checkpoint that empties the log succeeds only where nobody is in the middle of a read.
        with closing(sqlite3.connect(store.folder / DATABASE)) as other, other:
            assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        other.close()


def test_a_reader_changes_nothing(store: Store) -> None:
    with Reader.open(store.folder) as reader, pytest.raises(StoreUnwritable):
        reader._query("DELETE FROM subs")


def test_a_store_at_rest_is_read_from_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with Store.open(folder, NOW) as store:
        commit(store)
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    folder.chmod(0o500)
    try:
        with Reader.open(folder) as reader:
            assert len(reader.subs()) == 1
    finally:
        folder.chmod(0o700)


# alerts and requests


def test_alerts_go_to_each_service_by_themselves(store: Store) -> None:
    made = SubCommit(sub_row(), None, None, SERIES)
    store.commit_sub(made, [ALERT], ["s1", "s2"], {"alarm": '{"a":1}'})
    due = store.due(NOW)
    assert [(row.service, row.alert) for row in due] == [("s1", ALERT), ("s2", ALERT)]
    store.sent(due[0].outbox_id, NOW)
    store.failed(due[1].outbox_id, NOW, "refused", NOW + 5.0)
    assert store.due(NOW + 4.0) == []
    assert [(row.service, row.tries, row.error) for row in store.due(NOW + 5.0)] == [("s2", 1, "refused")]
    store.dropped(due[1].outbox_id, "over already")
    assert store.due(NOW + 99.0) == []
    logged = store.alerts("2026-09-21")[0]
    assert [(d.service, d.state, d.tries) for d in logged.deliveries] == [("s1", "sent", 1), ("s2", "dropped", 1)]
    assert store.alerts("2026-09-22") == []
    assert store.state("alarm") == '{"a":1}'
    assert store.state("other") is None


def test_requests_wait_in_order_and_keep_their_result(store: Store) -> None:
    commit(store)
    assert add_request(store.folder, "reject", {"sub_id": 1}, NOW) == 1
    assert add_request(store.folder, "limits", {"series_id": 1, "limits": {"weight": 0.1}}, NOW + 1) == 2
    first, second = store.requests()
    assert (first.kind, first.args, second.kind) == ("reject", {"sub_id": 1}, "limits")
    store.apply_request(first, "done", NOW + 2)
    store.apply_request(second, "no such limit", NOW + 2, refused=True)
    assert store.requests() == []
    assert [(r.state, r.result) for r in store.requests(pending=False)] == [
        ("applied", "done"),
        ("refused", "no such limit"),
    ]


def test_requests_need_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no store"):
        add_request(tmp_path, "ack", {}, NOW)


def test_the_heartbeat_is_read_back(store: Store) -> None:
    assert store.daemon() is None
    status = DaemonStatus(
        os.getpid(), "observatory", NOW, NOW, (FolderStatus("/captures", "events"),), 3, {"state": "clear"}
    )
    store.beat(NOW + 5.0, status)
    assert store.daemon() == replace(status, last_progress_utc_s=NOW + 5.0)
    with Reader.open(store.folder) as reader:
        assert reader.daemon() == store.daemon()


# one owner, the right place


def _hold(folder: str, ready: multiprocessing.synchronize.Event) -> None:
    with Store.open(Path(folder), NOW):
        ready.set()
        time.sleep(60.0)


def test_a_second_owner_is_told_the_pid_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path), ready))
    holder.start()
    assert ready.wait(20.0)
    with pytest.raises(StoreLocked, match=rf"Process {holder.pid} "):
        Store.open(tmp_path, NOW)
    holder.kill()
    holder.join()
    Store.open(tmp_path, NOW).close()


def test_the_lock_is_given_back(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        pass
    with FolderLock(tmp_path):
        pass


def test_files_are_private_unless_the_folder_is_the_groups(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        for name, mode, wanted in (("mine", 0o700, 0o600), ("ours", 0o2770, 0o660)):
            folder = tmp_path / name
            folder.mkdir()
            folder.chmod(mode)
            with Store.open(folder, NOW) as store:
                commit(store)
                modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
            assert set(modes.values()) == {wanted}, modes
            assert len(modes) == 4
    finally:
        os.umask(old)


def test_network_file_systems_are_recognised(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 22 0:35 / /mnt/my\\040nas rw shared:2 - nfs4 nas:/export rw\n"
        "41 40 0:36 / /mnt/my\\040nas/local rw - tmpfs tmpfs rw\n"
        "42 22 0:37 / /mnt/cloud rw - fuse https://cloud.example.org/dav rw\n"
        "43 22 0:38 / /mnt/own rw - fuse own rw\n"
        "broken line\n"
    )
    assert filesystem_of(Path("/mnt/my nas/store"), table) == "nfs4"
    assert filesystem_of(Path("/mnt/my nas/local/store"), table) == "tmpfs"
    assert filesystem_of(Path("/mnt/my nas2"), table) == "ext4"
    assert filesystem_of(Path("/"), tmp_path / "missing") == ""
    assert [filesystem_of(Path(f"/mnt/{name}"), table) for name in ("cloud", "own")] == ["davfs", "fuse"]


def test_shares_are_told_from_disks() -> None:
    shares = "nfs nfs4 cifs smb3 9p ceph glusterfs vboxsf drvfs davfs prl_fs fuse.sshfs fuse.rclone fuse.glusterfs"
    disks = "ext4 xfs btrfs tmpfs overlay vfat exfat ntfs3 fuseblk fuse fuse.gocryptfs fuse.mergerfs virtiofs zfs"
    assert [kind for kind in shares.split() if not is_network(kind)] == []
    assert [kind for kind in disks.split() if is_network(kind)] == []


def test_a_store_on_a_share_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsgd.session.place.filesystem_of", lambda folder: "cifs")
    with pytest.raises(StoreUnusable, match=r"network file system \(cifs\).*local disk"):
        Store.open(tmp_path, NOW)


def test_no_store_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="no store"):
        Reader.open(tmp_path)


# damage and versions


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path, NOW).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(StoreUnusable, match="newer nsgd"):
        Store.open(tmp_path, NOW)
    with pytest.raises(StoreUnusable, match="newer nsgd"):
        Reader.open(tmp_path)


def test_a_store_of_the_first_schema_is_read_whole_and_goes_on(tmp_path: Path) -> None:
    kept = Path(__file__).with_name("schemas") / "1.sql"
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
        connection.executescript(kept.read_text())
    connection.close()
    with Store.open(tmp_path, NOW) as store:
        first, second = store.subs()
        assert repr(first) == repr(sub_row(0, sub_id=1, series_id=1, decision="reject", change=3))
        assert second.failure == Failure("no_stars", "5 stars matched, 6 needed")
        rng = np.random.default_rng(11)
        found_facts, found_catalogue = store.facts(1), store.catalogue(1)
        assert found_facts is not None
        assert same_arrays(found_facts, facts(rng, 20, 9))
        assert found_catalogue is not None
        assert same_arrays(found_catalogue, replace(catalogue(rng), profile=np.empty((0, 9))))
        assert [row.alert for row in store.alerts()] == [ALERT]
        assert [row.service for row in store.due(NOW)] == ["phone"]
        assert [(one.kind, one.args) for one in store.requests()] == [
            ("limits", {"series_id": 1, "limits": {"weight": 0.3}})
        ]
        assert (store.state("alarm"), store.ignored()) == ('{"kept":1}', {"dark": 1})
        assert [one.path for one in store.unreadable()] == ["/captures/broken.fits"]
        assert commit(store, 2) == 3


def test_a_damaged_store_is_moved_aside(tmp_path: Path) -> None:
    with Store.open(tmp_path, NOW) as store:
        commit(store)
    content = (tmp_path / DATABASE).read_bytes()
    (tmp_path / DATABASE).write_bytes(content[:-5000] + bytes(5000))
    with pytest.raises(StoreDamaged):
        Store.open(tmp_path, NOW)
    store, aside = Store.open_anew(tmp_path, NOW)
    with store:
        assert store.subs() == []
    assert aside.read_bytes() == content[:-5000] + bytes(5000)


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("no database at all" * 300)
    with pytest.raises(StoreDamaged):
        Store.open(tmp_path, NOW)


def test_a_changed_row_is_noticed_where_it_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    with Store.open(tmp_path, NOW) as store:
        commit(store, 0, rng)
        with closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
            connection.execute("UPDATE subs SET stream = '61s g100'")
        connection.close()
        with pytest.raises(StoreDamaged, match="checksum"):
            store.subs()
    with pytest.raises(StoreDamaged, match="checksum"):
        Store.open(tmp_path, NOW)


def everything_read(store: Reader) -> str:
    """All that a dashboard or an export takes from a store, in the order of its sections."""
    subs = store.subs()
    kept = [None if found is None else found.flux.tobytes() for found in (store.facts(row.sub_id) for row in subs)]
    parts = (subs, store.series(), kept, store.alerts(), store.state("alarm"), store.ignored(), store.unreadable())
    return repr((*parts, store.changes_since(0), None if store.catalogue(1) is None else "a catalogue"))


def test_a_row_that_a_flipped_byte_hides_is_missed(tmp_path: Path, rng: np.random.Generator) -> None:
    """The number of rows in each page of each table and index, one less: SQLite reads on without a word."""
    with Store.open(tmp_path, NOW) as store:
        first = SubCommit(sub_row(0), facts(rng, 20, 9), catalogue(rng), SERIES)
        store.commit_sub(first, [ALERT], ["s1"], {"alarm": "x"})
        for number in range(1, 9):
            commit(store, number, rng)
        store.count_ignored("/captures/dark.fits", "dark")
        store.note_unreadable("/captures/broken.fits", "no END")
        wanted = everything_read(store)
    good = (tmp_path / DATABASE).read_bytes()
    silent = []
    for page in range(0, len(good), 4096):
        head = page + (100 if page == 0 else 0)
        cells = int.from_bytes(good[head + 3 : head + 5], "big")
        if good[head] not in (2, 5, 10, 13) or cells == 0:
            continue
        (tmp_path / DATABASE).write_bytes(good[: head + 3] + (cells - 1).to_bytes(2, "big") + good[head + 5 :])
        try:
            with Reader.open(tmp_path) as reader:
                silent += [page] if everything_read(reader) != wanted else []
        except StoreProblem:
            continue
    assert silent == []


# a disk that refuses


def refuse_writing(store: Store) -> None:
    """As a disk that went read-only: SQLite itself refuses each write to the file."""
    store._connection.execute("PRAGMA query_only = OFF")
    page_count = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {page_count}")


def allow_writing(store: Store) -> None:
    store._connection.execute("PRAGMA max_page_count = 1073741823")


def test_subs_stay_in_memory_while_the_disk_is_full_and_follow_later(tmp_path: Path, rng: np.random.Generator) -> None:
    store = Store.open(tmp_path, NOW)
    commit(store, 0, rng)
    refuse_writing(store)
    big = [SubCommit(sub_row(n), facts(rng), None, FIRST_SERIES) for n in range(1, 8)]
    ids = [store.commit_sub(made, [ALERT], ["s1"], {"alarm": "x"}) for made in big]
    assert ids == [2, 3, 4, 5, 6, 7, 8]
    assert store.unsaved > 0
    assert "full" in store.save_problem
    # all of it is there for the daemon itself
    assert [row.sub_id for row in store.subs(1)] == [1, *ids]
    assert store.known("content-7") == 8
    kept = store.facts(8)
    assert kept is not None
    assert same_arrays(kept, big[-1].facts)
    due = store.due(NOW)
    assert len(due) == 7
    store.sent(due[-1].outbox_id, NOW)
    store.decide(8, "reject")
    assert len(store.due(NOW)) == 6
    allow_writing(store)
    store.beat(NOW, DaemonStatus(1, "h", NOW, NOW))
    assert (store.unsaved, store.save_problem) == (0, "")
    store.close()
    with Store.open(tmp_path, NOW) as again:
        assert [row.sub_id for row in again.subs(1)] == [1, *ids]
        assert again.sub(8).decision == "reject"
        assert len(again.due(NOW)) == 6
        assert again.next_sub_id() == 9
        kept = again.facts(8)
        assert kept is not None
        assert same_arrays(kept, big[-1].facts)


def test_memory_for_unsaved_subs_is_bounded(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOST_UNSAVED", 2)
    with Store.open(tmp_path, NOW) as store:
        commit(store, 0, rng)
        refuse_writing(store)
        number = 1
        while store.unsaved < 2:
            store.commit_sub(SubCommit(sub_row(number), facts(rng), None, FIRST_SERIES))
            number += 1
        with pytest.raises(StoreUnwritable):
            store.commit_sub(SubCommit(sub_row(number), facts(rng), None, FIRST_SERIES))
        assert store.unsaved == 2


# speed


def test_ten_thousand_subs_are_read_whole(tmp_path: Path) -> None:
    with Store.open(tmp_path, NOW) as store:
        commit(store)
        values = [store_module._sub_values(sub_row(n, sub_id=n + 1)) for n in range(10_000)]
        with store._transaction():
            store._put("main", [("subs", row) for row in values])
        assert sorted(row.sub_id for row in store.subs()) == list(range(1, 10_001))
