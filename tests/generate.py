"""Writes what is generated: config.example.toml and the marked blocks of README.md. Run it after a change.

python tests/generate.py
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from nsgd import config
from nsgd.cli.entry import nsgd
from nsgd.export.table import COLUMNS
from nsgd.session.messages import CAUSES, TROUBLES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nsgd"
SHOWN = (".py", ".tcss", ".html", ".css")


def settings_block() -> str:
    """The table of all settings."""
    lines = ["| setting | default | bounds | what it does |", "|---|---|---|---|"]
    for knob in config.knobs():
        default = "not set" if knob.default is None else f"`{config.to_toml(knob.default)}`"
        bounds = knob.bounds.replace("|", "or")
        lines.append(f"| `{knob.name}` | {default} | {bounds} | {knob.sentence} |")
    return "\n".join(lines)


def leaf_commands(group: click.Group = nsgd, before: str = "nsgd") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its full name, in the order of the help."""
    for name, command in group.commands.items():
        full = f"{before} {name}"
        if isinstance(command, click.Group):
            yield from leaf_commands(command, full)
        else:
            yield full, command


def commands_block() -> str:
    """Every command with its arguments and first sentence."""
    lines = ["| command | what it does |", "|---|---|"]
    for name, command in leaf_commands():
        arguments = [
            part.make_metavar(click.Context(command)) for part in command.params if part.param_type_name == "argument"
        ]
        lines.append(
            f"| `{' '.join([name, *arguments])}` | {first_sentence(command.help or '')} |".replace("a|b", "a b")
        )
    return "\n".join(lines)


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s(?=[A-Z])", paragraph)[0]


def columns_block() -> str:
    """The header line of subs.csv."""
    return "```text\n" + fold(", ".join(COLUMNS)) + "\n```"


def fold(text: str, width: int = 118) -> str:
    """Text in lines of at most `width`, broken at spaces."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def alert_kinds_block() -> str:
    """What can ring, with the words it rings with."""
    lines = ["| what happens | the message begins with | and when it is over |", "|---|---|---|"]
    lines += [f"| `{kind}` | {title} | Clear again |" for kind, title in CAUSES.items()]
    lines += [f"| `{kind}` | {begin} | {end} |" for kind, (begin, end) in TROUBLES.items()]
    lines.append("| `dawn` | Night of ...: what was kept and lost | |")
    return "\n".join(lines)


def tree_block() -> str:
    """Every module with the first sentence of its docstring."""
    lines = ["nsgd/"]
    for path in sorted(PACKAGE.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir() and (path / "__init__.py").exists():
            lines.append(f"├── {path.name + '/':18s} {about(path / '__init__.py')}")
            inside = sorted(p for p in path.iterdir() if p.suffix in SHOWN and p.name != "__init__.py")
            lines += [f"│   {module.name:18s} {about(module)}" for module in inside]
        elif path.suffix == ".py" and path.name != "__init__.py":
            lines.append(f"├── {path.name:18s} {about(path)}")
    return "```text\n" + "\n".join(line.rstrip() for line in lines) + "\n```"


def about(path: Path) -> str:
    """What a module says it holds."""
    if path.suffix != ".py":
        return ""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0].rstrip(".")[:120]


BLOCKS: dict[str, Callable[[], str]] = {
    "settings": settings_block,
    "alert kinds": alert_kinds_block,
    "commands": commands_block,
    "columns": columns_block,
    "tree": tree_block,
}


def with_blocks(text: str) -> str:
    """README's text with every marked block made anew."""
    for name, make in BLOCKS.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        block = make()
        text, count = re.subn(
            pattern, lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text, count=1, flags=re.S
        )
        assert count == 1, f"README.md has no block <!-- {name} -->"
    return text


if __name__ == "__main__":
    (ROOT / "config.example.toml").write_text(config.example_text(), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(with_blocks(readme.read_text(encoding="utf-8")), encoding="utf-8")
