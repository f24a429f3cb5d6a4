"""Make strings of headers and file names harmless on a terminal, whatever bytes they hold.

The readers clean what they read; a screen trusts nobody. Widgets get `rich.text.Text` or plain segments made
of these strings, never markup.
"""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len, set_cell_size

_ZERO_WIDTH = ("Mn", "Me")


def inert(text: str, most: int = 200) -> str:
    """Drop control, bidirectional, zero-width and private characters; at most `most` characters stay.

    Parameters
    ----------
    text
        Any string. Tabs and line ends become blanks, so that words do not run together.
    most
        Longest result; a longer string ends in "…".
    """
    folded = unicodedata.normalize("NFC", text[: 8 * most])
    kept = "".join(" " if c in "\t\r\n" else c for c in folded if c in "\t\r\n" or _harmless(c))
    return kept if len(kept) <= most else kept[: most - 1] + "…"


def _harmless(character: str) -> bool:
    return character.isprintable() and unicodedata.category(character) not in _ZERO_WIDTH


def fit(text: str, width: int) -> str:
    """`text` in exactly `width` terminal cells: padded, or cut with "…"."""
    if width <= 0:
        return ""
    if text.isascii() and len(text) <= width:
        return text.ljust(width)
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"
