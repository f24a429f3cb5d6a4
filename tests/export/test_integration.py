"""The script and icons for ImageIntegration, whatever the frames are called."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from nsgd.export.integration import Input, Integration, javascript, process_icons, rejection


def stack(count: int, *, drizzle: str = "", name: str = "L", noise_known: bool = True) -> Integration:
    inputs = [Input(True, f"/r/{n}.xisf", f"/x/{n}.xnml", drizzle and f"/r/{n}.xdrz") for n in range(count)]
    return Integration(name, [*inputs, Input(False, "/r/bad.xisf", "/x/bad.xnml")], "/w.csv", noise_known)


@pytest.mark.parametrize(
    ("count", "name"),
    [(3, "PercentileClip"), (7, "PercentileClip"), (8, "SigmaClip"), (10, "SigmaClip"), (11, "WinsorizedSigmaClip"),
     (19, "WinsorizedSigmaClip"), (20, "Rejection_ESD"), (500, "Rejection_ESD")],
)  # fmt: skip
def test_pixel_rejection_follows_the_number_of_enabled_frames(count: int, name: str) -> None:
    assert rejection(count)["rejection"] == (name,)
    assert f"P.rejection = E.{name};" in javascript(stack(count))


def test_hostile_paths_stay_string_literals() -> None:
    evil = 'x"];P.executeGlobal();//</script>\u2028\n\\'
    text = javascript(Integration("L", [Input(True, evil, evil, evil)], evil, noise_known=False))
    code = re.sub(r'"(\\.|[^"\\])*"', '""', text)
    assert "executeGlobal" not in code
    assert "</script>" not in text
    assert text.isascii()
    row = next(line for line in text.splitlines() if line.startswith("   [ true"))
    assert json.loads(f"[{row.strip().strip('[] ')}]") == [True, evil, evil, evil]
    root = ET.fromstring(process_icons([Integration('L"/><x', [Input(True, evil, evil)], "", noise_known=True)]))
    assert root.find(".//{*}td[@id='path']") is not None
    assert root.find(".//{*}x") is None


def test_drizzle_is_offered_only_where_every_enabled_frame_has_its_data() -> None:
    assert "DrizzleIntegration" not in javascript(stack(4))
    with_data = javascript(stack(4, drizzle="yes"))
    assert with_data.count(".xdrz") == 8
    assert "bad" not in with_data.split("new DrizzleIntegration")[1]
    icons = ET.fromstring(process_icons([stack(4, drizzle="yes")]))
    assert [one.get("class") for one in icons.iterfind("{*}instance")] == ["ImageIntegration", "DrizzleIntegration"]


def test_every_stack_has_an_icon_of_its_own() -> None:
    icons = ET.fromstring(process_icons([stack(3), stack(3, name="H-α")]))
    names = [icon.get("instance") for icon in icons.iterfind("{*}icon")]
    assert names == [one.get("id") for one in icons.iterfind("{*}instance")]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"\w+", name or "", re.ASCII) for name in names)


def test_exact_weights_come_from_the_file_only_where_the_headers_lack_the_noise() -> None:
    assert "CSVWeightsFile" not in javascript(stack(3))
    text = javascript(stack(3, noise_known=False))
    assert 'if (typeof E.CSVWeightsFile != "undefined")' in text
    assert 'P.csvWeightsFilePath = "/w.csv";' in text
