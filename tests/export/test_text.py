"""Hostile strings stay readable and do nothing."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsgd.export.text import FORMULA_STARTS, csv_cell, free_names, html_text, plain_name, script_string, visible

ANY = st.text(st.characters(exclude_categories=()), max_size=120)


@given(ANY)
def test_visible_text_holds_no_control_or_direction_character(text: str) -> None:
    shown = visible(text)
    assert all(unicodedata.category(c)[0] != "C" for c in shown)
    shown.encode("utf-8")


@given(ANY)
def test_no_cell_starts_a_formula(text: str) -> None:
    cell = csv_cell(text)
    assert not cell.startswith(FORMULA_STARTS) or re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", cell, re.ASCII)


@pytest.mark.parametrize("text", ["-0.25", "+1.5e-07", "-12", "M 31", "sub_001.fits", ""])
def test_numbers_and_plain_text_stay_as_they_are(text: str) -> None:
    assert csv_cell(text) == text


@pytest.mark.parametrize("text", ["=cmd|calc!A1", "+SUM(A1)", "-2+3", "@x", "\tx", "＝1+1"])
def test_formulas_are_quoted(text: str) -> None:
    assert csv_cell(text).startswith("'")


@given(ANY)
def test_no_tag_or_attribute_can_start(text: str) -> None:
    assert not set("<>\"'") & set(html_text(text))


@given(ANY)
def test_a_script_string_is_one_literal_that_says_the_same(text: str) -> None:
    literal = script_string(text)
    assert json.loads(literal) == text
    assert literal.isascii()
    assert not set("<>&") & set(literal)


@given(ANY)
def test_a_plain_name_is_one_harmless_file_name_or_nothing(text: str) -> None:
    name = plain_name(text)
    assert re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9._+-]*)?", name)
    assert len(name) < 100
    assert not name.endswith(".")
    assert not re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", name, re.IGNORECASE)


@given(st.lists(ANY, max_size=12))
def test_names_of_different_things_never_meet(texts: list[str]) -> None:
    names = free_names(texts, "sub")
    assert len({name.casefold() for name in names}) == len(texts)
    assert all(names)


def test_harmless_names_stay_as_they_are() -> None:
    assert free_names(["M31_L_001_r", "M 31", "m_31", "../../etc/cron.d/x", "CON"], "sub") == [
        "M31_L_001_r", "M_31", "m_31_2", "etc_cron.d_x", "_CON",
    ]  # fmt: skip
