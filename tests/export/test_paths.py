"""Paths as the machine that stacks sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsgd.errors import BadRequest
from nsgd.export.paths import mapped, parse_map


@pytest.mark.parametrize(
    ("maps", "path", "expected"),
    [
        ((), "/mnt/astro/a.fits", "/mnt/astro/a.fits"),
        (("/mnt/astro=D:/astro",), "/mnt/astro/m 31/a.fits", "D:/astro/m 31/a.fits"),
        (("/mnt/astro/=D:\\astro\\",), "/mnt/astro/a.fits", "D:/astro/a.fits"),
        (("/mnt/astro=\\\\nas\\astro",), "/mnt/astro/a.fits", "//nas/astro/a.fits"),
        (("/mnt/astro=D:/astro",), "/mnt/astronomy/a.fits", "/mnt/astronomy/a.fits"),
        (("/mnt=X:", "/mnt/astro=D:/astro"), "/mnt/astro/a.fits", "D:/astro/a.fits"),
        (("/=Z:",), "/mnt/a.fits", "Z:/mnt/a.fits"),
    ],
)
def test_the_longest_fitting_prefix_is_replaced(maps: tuple[str, ...], path: str, expected: str) -> None:
    assert mapped(Path(path), parse_map(maps)) == expected


@pytest.mark.parametrize("text", ["/mnt/astro", "=D:/astro", ""])
def test_a_mapping_without_two_sides_is_one_clear_sentence(text: str) -> None:
    with pytest.raises(BadRequest, match="FROM=TO"):
        parse_map([text])
