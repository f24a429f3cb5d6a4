"""What an export says while it runs and when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and what is being done."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was written, and what the user should know."""

    files: tuple[Path, ...]
    summary: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def no_progress(done: int, total: int, what: str) -> None:
    """Tell nobody."""
