"""The systemd units: accepted by systemd, walled in, and of one mind with the program."""

from __future__ import annotations

import configparser
import re
import shutil
from pathlib import Path

import pytest

from nsgd.cli.entry import BAD_CONFIG
from nsgd.config import CREDENTIAL_NAME, PUBLISH_CREDENTIAL
from nsgd.whereabouts import SERVICE_STORE
from tests.benchmarks.survive.units import MOST, UNITS, exposure, verified

SLICE = {"nsgd.service": "nsgd.slice", "nsgd-user.service": "background.slice"}
"""Where each unit's share of the processor is small beside the slice that the capture program is in."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def unit(name: str) -> configparser.SectionProxy:
    """The [Service] section; of keys that come several times the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return parser["Service"]


@needs_systemd
@pytest.mark.parametrize("name", MOST)
def test_systemd_accepts_the_unit_without_a_word(name: str, tmp_path: Path) -> None:
    assert verified(name, tmp_path) == ""


@needs_systemd
@pytest.mark.parametrize("name", MOST)
def test_the_unit_has_the_least_rights(name: str, tmp_path: Path) -> None:
    assert exposure(name, tmp_path)[1], f"see systemd-analyze security --offline=yes systemd/{name}"


@pytest.mark.parametrize("name", MOST)
def test_a_dead_or_hung_daemon_is_replaced_within_a_minute(name: str) -> None:
    service = unit(name)
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    assert float(service["WatchdogSec"]) + float(service["RestartSec"]) <= 60.0
    assert service["RestartPreventExitStatus"] == str(BAD_CONFIG)


@pytest.mark.parametrize("name", MOST)
def test_nsgd_yields_to_the_capture_program(name: str) -> None:
    service = unit(name)
    assert int(service["Nice"]) >= 10
    assert service["IOSchedulingClass"] == "idle"
    assert service["Slice"] == SLICE[name]
    assert int(service["OOMScoreAdjust"]) > 0
    assert "MemoryHigh" in service


@needs_systemd
def test_the_services_own_slice_has_a_small_share(tmp_path: Path) -> None:
    assert verified("nsgd.slice", tmp_path) == ""
    assert "CPUWeight=20\nIOWeight=20\n" in (UNITS / "nsgd.slice").read_text(encoding="utf-8")


def test_the_service_finds_its_store_and_its_secrets_where_the_program_looks() -> None:
    service = unit("nsgd.service")
    assert Path("/var/lib") / service["StateDirectory"] == SERVICE_STORE
    assert service["StateDirectoryMode"] == "2770"
    text = (UNITS / "nsgd.service").read_text(encoding="utf-8")
    for key in ("LoadCredential", "SetCredential"):  # the second stands in where the file is missing
        assert re.findall(rf"^{key}=(\w+):", text, re.MULTILINE) == [CREDENTIAL_NAME, PUBLISH_CREDENTIAL]
