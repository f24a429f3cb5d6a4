"""A setting is declared once: unit, default, bounds, one sentence; the example file is generated from it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from nsgd import config
from nsgd.settings import Settings

ROOT = Path(__file__).parents[1]


def test_the_example_file_is_the_generated_one() -> None:
    text = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    assert text == config.example_text(), "regenerate: python tests/generate.py"


def test_the_example_file_with_every_line_switched_on_is_valid() -> None:
    lines = [line[1:] if re.match(r"#[\w\"]", line) else line for line in config.example_text().splitlines()]
    tree = tomllib.loads("\n".join(lines))
    assert sum(len(section) for section in tree.values()) > 40
    Settings.model_validate(tree)


@pytest.mark.parametrize("knob", list(config.knobs()), ids=lambda knob: knob.name)
def test_every_setting_is_explained_in_one_sentence(knob: config.Knob) -> None:
    assert knob.sentence.endswith("."), knob.name
    assert len(knob.sentence) < 160


@pytest.mark.parametrize("knob", list(config.knobs()), ids=lambda knob: knob.name)
def test_every_number_has_bounds(knob: config.Knob) -> None:
    if isinstance(knob.example, int | float) and not isinstance(knob.example, bool):
        assert knob.bounds, knob.name


@pytest.mark.parametrize("knob", list(config.knobs()), ids=lambda knob: knob.name)
def test_a_unit_in_the_sentence_is_in_the_name(knob: config.Knob) -> None:
    for word, unit in (("seconds", "_s"), ("pixels", "_px"), ("minutes.", "_min"), ("megabytes", "_mb")):
        if knob.sentence.endswith(f"{word}."):
            assert knob.key.endswith(unit), knob.name


def test_answers_of_config_init_are_set_and_the_rest_stays_default() -> None:
    text = config.example_text({"watch.folders": ["/lights"], "site.timezone": "Europe/Berlin"})
    loaded = config.check_text(None, text, {})
    assert loaded.settings.watch.folders == ("/lights",)
    assert set(loaded.origins) == {"watch.folders", "site.timezone"}
