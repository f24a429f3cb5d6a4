"""Docs are tested like code: commands, settings, columns, alert kinds and the tree are what the README says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest
from generate import BLOCKS, leaf_commands, with_blocks

from nsgd.export.table import COLUMNS
from nsgd.records import SkyState
from nsgd.session.alerts import rule_of
from nsgd.settings import Alarm

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = list(leaf_commands())
PROMISED_COLUMNS = (
    "file series object filter date_obs exposure_s status reasons stars scale scale_err transmission transmission_err "
    "transmission_clear airmass weight noise_adu sky_adu gradient_x_adu gradient_y_adu gradient_rms_adu fwhm_px "
    "ellipticity dx_px dy_px rotation_deg sky_state"
)
PROMISED_COMMANDS = (
    "run, dashboard, measure, status, is-clear, reference show, reference set, reference auto, limits show, "
    "limits set, accept, reject, undo, ack, snooze, apply, export csv, export images, export pixinsight, export siril, "
    "export report, blink, notify test, notify list, fleet init, fleet add-rig, replay, doctor, "
    "session list, session end, config init, config check, config show, config path, simulate, demo, completion"
)


@pytest.mark.parametrize("block", BLOCKS)
def test_generated_parts_of_the_readme_are_up_to_date(block: str) -> None:
    pattern = rf"<!-- {block} -->\n(.*?)<!-- end -->"
    found, made = (re.search(pattern, text, re.DOTALL) for text in (README, with_blocks(README)))
    assert found
    assert made
    assert found[1] == made[1], "regenerate: python tests/generate.py"


def test_the_promised_columns_come_first() -> None:
    assert list(COLUMNS)[:27] == PROMISED_COLUMNS.split()


def test_every_promised_command_exists() -> None:
    names = [name.removeprefix("nsgd ") for name, _ in COMMANDS]
    assert sorted(names) == sorted(PROMISED_COMMANDS.split(", "))


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_has_help_with_an_example_of_itself(name: str, command: click.Command) -> None:
    text = command.help or ""
    assert re.match(r"[A-Z].*?[.:]", text, re.DOTALL), "the help begins with a sentence"
    assert re.search(rf"Examples?:\s+{name}", text), f"the help of {name} shows an example"


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_takes_store_and_config(name: str, command: click.Command) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--store", "--config"} <= options, name


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_option_says_what_it_does(name: str, command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"


def test_every_command_line_in_the_readme_is_understood() -> None:
    known = {name for name, _ in COMMANDS}
    blocks = "\n".join(re.findall(r"```(?:sh|bat)\n(.*?)```", README, re.DOTALL))
    pattern = r"\bnsgd [a-z-]+(?: [a-z]+)?"
    said = re.findall(rf"(?:^|[ /])({pattern})", blocks, re.MULTILINE) + re.findall(rf"`({pattern})", README)
    assert said
    for line in said:
        words = line.split()
        assert line in known or " ".join(words[:2]) in known or any(name.startswith(line) for name in known), line


def test_links_in_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", README) + re.findall(r'src="([^"]+)"', README):
        assert (ROOT / target).exists(), target


def test_every_benchmark_that_the_readme_names_exists() -> None:
    named = re.findall(r"python -m (tests\.benchmarks\.[\w.]+)", README)
    assert named
    for module in named:
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


def test_ci_runs_the_test_command_of_the_readme() -> None:
    command = re.search(r"<!-- test command -->\n```sh\n(.*?)\n```", README)
    assert command
    assert command[1].endswith("-m pytest")
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def failure_kinds() -> set[str]:
    """Kinds of failures that the package commits."""
    kinds = set()
    for path in (ROOT / "nsgd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and ast.unparse(node.func) in ("MeasureFailure", "Failure")
            if named and node.args and isinstance(node.args[0], ast.Constant):
                kinds.add(node.args[0].value)
    return kinds


def test_every_kind_of_failure_is_explained() -> None:
    kinds = failure_kinds()
    assert {"no_stars", "no_match"} <= kinds
    table = README.partition("| reason | meaning |")[2].partition("\n\n")[0]
    assert not {kind for kind in kinds if kind not in table}


def test_every_sky_state_is_explained() -> None:
    text = README.partition("The sky is ")[2].partition("A sub is ")[0]
    assert not {str(state) for state in SkyState if f"`{state}`" not in text}


@pytest.mark.parametrize("sensitivity", ["calm", "normal", "keen"])
def test_the_readme_says_when_the_phone_rings(sensitivity: str) -> None:
    rule = rule_of(Alarm(sensitivity=sensitivity))  # type: ignore[arg-type]
    line = next(line for line in README.splitlines() if line.startswith(f"| `{sensitivity}` |"))
    minutes = f"{rule.seconds / 60:.0f} minute"
    for words in (f"below {rule.below:.2f} for {rule.subs} subs and {minutes}", f"above {rule.above:.2f}"):
        assert words in line
