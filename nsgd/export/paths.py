"""Paths as another machine sees them: the stack is made elsewhere, often on Windows, over a share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nsgd.errors import BadRequest

PathMap = tuple[tuple[str, str], ...]
"""Prefixes here and there, e.g. (("/mnt/astro", "D:/astro"),)."""


def parse_map(texts: Sequence[str]) -> PathMap:
    r"""Mappings from the command line: "/mnt/astro=D:\astro" each.

    Raises
    ------
    BadRequest
        A text has no "=", or nothing before it.
    """
    found = []
    for text in texts:
        here, equals, there = text.partition("=")
        if not equals or not here.strip():
            raise BadRequest(f"{text!r} is no path mapping; write FROM=TO, e.g. /mnt/astro=D:/astro.")
        found.append((_slashes(here), _slashes(there)))
    return tuple(found)


def mapped(path: Path, path_map: PathMap = ()) -> str:
    """Absolute path with forward slashes, as the other machine sees it; the longest fitting prefix counts."""
    text = path.absolute().as_posix()
    for here, there in sorted(path_map, key=lambda pair: -len(pair[0])):
        rest = _behind(text, here)
        if rest is not None:
            return there + rest
    return text


def _slashes(prefix: str) -> str:
    plain = prefix.strip()
    if re.match(r"[A-Za-z]:\\|\\\\", plain):
        plain = plain.replace("\\", "/")
    return plain.rstrip("/")


def _behind(text: str, prefix: str) -> str | None:
    """What follows the prefix, None where it is not one; drive letters know no capitals."""
    same = text.casefold().startswith(prefix.casefold()) if prefix[1:2] == ":" else text.startswith(prefix)
    rest = text[len(prefix) :]
    return rest if same and (not rest or rest.startswith("/")) else None
