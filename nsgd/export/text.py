"""Text that came from headers and file names, made inert for each kind of file that nsgd writes.

Such strings may hold anything: terminal escapes, spreadsheet formulas, `../`, script tags. What a reader sees stays
recognisable, what a program would obey is taken away.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")
"""First characters that make a spreadsheet obey a cell (OWASP, CSV injection; full-width forms included)."""

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._+-]+")
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_LONGEST_NAME: Final = 80


def visible(text: str) -> str:
    r"""Text whose control, direction and undecodable characters are spelt out (`\x1b`), so that none is obeyed."""
    return "".join(_spelt(c) if unicodedata.category(c) in _UNSEEN else c for c in text)


def _spelt(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def csv_cell(text: str) -> str:
    """One cell of text for a CSV file: no formula starts in it, numbers stay as they are."""
    if text.startswith(FORMULA_STARTS) and not _NUMBER.fullmatch(text):
        return "'" + visible(text)
    return visible(text)


def html_text(text: str) -> str:
    """Text for an HTML or SVG body or a quoted attribute."""
    return html.escape(visible(text), quote=True)


def script_string(text: str) -> str:
    """A string literal for JavaScript, also where the script lies inside HTML."""
    return json.dumps(text).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plain_name(text: str) -> str:
    """The part of a text that may stand in a file name on every system; "" where nothing is left.

    No separator, drive, device name, leading dot or dash survives. Different texts may give the same name.
    """
    name = _NOT_IN_A_NAME.sub("_", unicodedata.normalize("NFKD", text)).strip("._-+")[:_LONGEST_NAME].rstrip(".")
    return f"_{name}" if _RESERVED.match(name) else name


def free_names(texts: Iterable[str], otherwise: str) -> list[str]:
    """Plain names for texts, numbered where two are alike (capitals make no difference on some systems).

    Parameters
    ----------
    otherwise
        The name of a text of which nothing may stand in a file name.
    """
    taken: set[str] = set()
    names = []
    for text in texts:
        plain = plain_name(text) or otherwise
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
