"""Whole screens as text, compared with those that `make_pictures.py` wrote when they were last looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
from make_pictures import PICTURES, SCREENS, SHOTS, Shot, shoot, words
from nights import night_store


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
async def test_screen_is_as_it_was_looked_at(shot: Shot, tmp_path: Path) -> None:
    store, last_utc_s = night_store(tmp_path / "store")
    store.close()
    seen = words(await shoot(tmp_path / "store", last_utc_s + 42.0, shot), shot.columns)
    kept = (SCREENS / f"{shot.name}.txt").read_text(encoding="utf-8")
    assert seen == kept, "look at the screen, then run: python tests/dashboard/make_pictures.py"


def test_the_readme_pictures_load_nothing_from_the_network() -> None:
    for name in ("dashboard", "dashboard-phone", "dashboard-sub"):
        text = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
        assert "url(http" not in text
        assert 'href="http' not in text
