"""The rooms are stacked as the README says, held by tools and not by memory."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nsgd"


def run(*command: str, timeout_s: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.mark.timeout(300)
def test_imports_keep_to_the_storeys() -> None:
    done = run(sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_types_hold_strictly() -> None:
    done = run(sys.executable, "-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("check", "."), ("format", "--check", ".")], ids=["check", "format"])
def test_the_code_is_clean(arguments: tuple[str, ...]) -> None:
    done = run(sys.executable, "-m", "ruff", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def modules_after(statement: str) -> set[str]:
    """Top-level modules that are loaded after a statement ran in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = run(sys.executable, "-c", code, timeout_s=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import nsgd.cli", {"numpy", "pydantic", "scipy", "sep", "astropy", "textual", "apprise", "watchdog"}),
        ("import nsgd.dashboard.app", {"numpy", "pydantic", "scipy", "sep", "astropy", "watchdog", "apprise", "PIL"}),
        ("import nsgd.dashboard.fleet, nsgd.fleet.read", {"numpy", "pydantic", "sqlite3", "tomllib", "PIL"}),
        ("import nsgd.dashboard.first_line", {"numpy", "pydantic", "textual", "asyncio", "tomllib", "click"}),
        (
            "import nsgd.dashboard.screens, nsgd.dashboard.sub_screen, nsgd.dashboard.chooser",
            {"pydantic", "scipy", "sep", "astropy", "watchdog", "apprise", "PIL"},
        ),
        ("import nsgd.session.judge, nsgd.session.alerts, nsgd.session.store", {"scipy", "sep", "astropy", "textual"}),
        ("import nsgd.daemon.run", {"textual", "rich"}),
        ("import nsgd.measure.recipe", {"sqlite3", "watchdog", "apprise", "textual", "astropy"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_room_starts_without_the_libraries_of_others(statement: str, absent: set[str]) -> None:
    assert not absent & modules_after(statement)


def blind_handlers(path: Path) -> list[int]:
    """Lines where anything at all is caught and not raised again."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blind = (None, "Exception", "BaseException")
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    return [
        node.lineno
        for node in handlers
        if (ast.unparse(node.type) if node.type else None) in blind and not isinstance(node.body[-1], ast.Raise)
    ]


DOORS = {
    "nsgd/daemon/run.py": "the loop: what goes wrong over one sub is committed as that sub's failure",
    "nsgd/frames/worker.py": "the decoder process: a foreign library may raise anything on a hostile file",
}
"""One door in each process that must outlive whatever comes through it, and why."""


def test_only_the_supervised_doors_catch_everything() -> None:
    found = {str(path.relative_to(ROOT)): lines for path in PACKAGE.rglob("*.py") if (lines := blind_handlers(path))}
    assert set(found) == set(DOORS), found
    assert all(len(lines) == 1 for lines in found.values()), found


def test_no_module_is_called_after_nothing() -> None:
    nothing = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base", "tools"}
    assert not {path.stem for path in PACKAGE.rglob("*.py")} & nothing


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_holds(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
