"""How the screens look. Colours: dark and light (safe for colour-blind eyes), red for night vision, and 16 colours.

Blue means fine, orange careful, vermilion trouble (Okabe & Ito's palette, which red-green blind eyes tell
apart); every colour comes with a glyph and a word, so none is needed to understand the screen.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from textual.theme import BUILTIN_THEMES, Theme

if TYPE_CHECKING:
    from textual.app import App


class Marker(StrEnum):
    """How graphs are drawn: dots of 2x4 a cell, quarters of a cell, or letters for poor fonts."""

    BRAILLE = "braille"
    BLOCK = "block"
    ASCII = "ascii"


def _inks(**inks: str) -> dict[str, str]:
    return {f"ink-{name}": colour for name, colour in inks.items()}


DARK = Theme(
    name="nsgd-dark",
    primary="#56B4E9",
    secondary="#8A93A0",
    success="#56B4E9",
    warning="#E69F00",
    error="#E8702A",
    accent="#F0E442",
    foreground="#D8DEE6",
    background="#0B0F14",
    surface="#121820",
    panel="#1B2430",
    variables=_inks(
        ok="#56B4E9", bad="#F0803C", line="#31618A", err="#33506A", level="#5C6773", expected="#B48EAD",
        cut="#E69F00", axis="#4B5661", label="#A9B4C0", cursor="#8F9BA8", mark="#F0E442", alert="#F0803C",
        quiet="#A9B4C0", on="#08111A",
    ),
)  # fmt: skip

LIGHT = Theme(
    name="nsgd-light",
    dark=False,
    primary="#0072B2",
    secondary="#5B6570",
    success="#0072B2",
    warning="#A86400",
    error="#B83E00",
    accent="#7A5C00",
    foreground="#1C2329",
    background="#FBFBF8",
    surface="#F1F1EC",
    panel="#E4E5E0",
    variables=_inks(
        ok="#0072B2", bad="#C24400", line="#9CC3DE", err="#BCCFDC", level="#9AA0A6", expected="#8B5A93",
        cut="#A86400", axis="#8A9097", label="#454D55", cursor="#60676E", mark="#7A5C00", alert="#C24400",
        quiet="#454D55", on="#FFFFFF",
    ),
)  # fmt: skip

RED = Theme(
    name="nsgd-red",
    primary="#C03020",
    secondary="#7A1E14",
    success="#C03020",
    warning="#E04A32",
    error="#FF5A3C",
    accent="#E04A32",
    foreground="#B83020",
    background="#000000",
    surface="#0A0000",
    panel="#1C0402",
    variables={
        **_inks(
            ok="#C83422", bad="#FF6A4A", line="#5E140C", err="#4A100A", level="#4A100A", expected="#8A2216",
            cut="#E04A32", axis="#5E140C", label="#A02A1C", cursor="#8A2216", mark="#FF6A4A", alert="#FF6A4A",
            quiet="#A02A1C", on="#000000",
        ),
        "footer-key-foreground": "#E04A32",
        "footer-description-foreground": "#A02A1C",
        "block-cursor-text-style": "bold",
        "input-cursor-background": "#C03020",
        "input-selection-background": "#5E140C",
        "border": "#7A1E14",
        "scrollbar": "#3A0A06",
        "scrollbar-hover": "#5E140C",
        "scrollbar-active": "#7A1E14",
        "scrollbar-background": "#0A0000",
    },
)  # fmt: skip

SIXTEEN = Theme(
    name="nsgd-16",
    ansi=True,
    primary="ansi_bright_blue",
    secondary="ansi_white",
    success="ansi_bright_blue",
    warning="ansi_yellow",
    error="ansi_bright_red",
    accent="ansi_bright_yellow",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    variables=BUILTIN_THEMES["ansi-dark"].variables
    | _inks(
        ok="ansi_bright_cyan", bad="ansi_bright_red", line="ansi_blue", err="ansi_blue", level="ansi_bright_black",
        expected="ansi_magenta", cut="ansi_yellow", axis="ansi_bright_black", label="ansi_default",
        cursor="ansi_white", mark="ansi_bright_yellow", alert="ansi_bright_red", quiet="ansi_white", on="ansi_black",
    ),
)  # fmt: skip

THEMES = (DARK, LIGHT, RED, SIXTEEN)


def dress(app: App[int]) -> None:
    """Give an app the themes, and no animation: nothing moves here but data, and over SSH every frame costs."""
    app.animation_level = "none"
    for theme in THEMES:
        app.register_theme(theme)
    app.theme = THEMES[0].name


def theme_for(colours: str | None) -> str:
    """The theme for a terminal by its number of colours, as rich names it."""
    return SIXTEEN.name if colours == "standard" else DARK.name


def next_theme(name: str) -> str:
    """The theme after this one; the first where it is none of ours."""
    names = [theme.name for theme in THEMES]
    return names[(names.index(name) + 1) % len(names)] if name in names else names[0]
