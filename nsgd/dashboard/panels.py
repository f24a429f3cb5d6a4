"""The small screens that lie over another one: help, a choice of a few, the cut-offs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static

from nsgd.records import CutOffs

KEYS = (
    ("1 2 3 4 5", "transmission, weight, FWHM, stars, sky"),
    ("[ ]", "series before, next series"),
    ("{ } n", "night before, next night, one night or all"),
    ("+ - 0", "zoom in time around the cursor, all of it"),
    ("up down j k", "walk through the subs; g first, G last"),
    ("enter", "everything about one sub"),
    ("/ f o", "filter (word, !word, rejected), jump to a sub, sort"),
    ("x z", "reject or accept, undo"),
    ("t", "move the cut-offs and see what they would keep"),
    ("b r", "choose the reference by blinking, make this one it"),
    ("a s", "acknowledge the alert, snooze"),
    ("p w c", "freeze the display, more columns, copy the path"),
    ("T m", "colours (dark, light, red, 16), dots of the graphs"),
    (": ctrl+p", "every command by name"),
    ("esc q", "back, quit; the daemon goes on"),
)
SIGNS = (
    ("T W", "light against clear sky with the expected extinction taken out; worth per exposure against the best sub"),
    ("● × ! ✎", "in the stack, rejected, not measured, decided by you"),
    ("⟲ ◆ ◎", "meridian flip, other filter before, refocused"),
    ("▲ △ ▽", "alert sent, alert not delivered, all-clear"),
)


SUB_KEYS = (
    ("1 2 3 4 5 tab", "facts, stars, photometry, gradient, picture"),
    ("left right h l", "the sub before, the next one; also [ ]"),
    ("- + , .", "gradient: let the surface follow more, or less"),
    ("enter", "keep this smoothness for the series and its exports"),
    ("v", "photometry: ratios, or flux against flux"),
    ("c", "the next colour of a colour sub"),
    ("u b space", "picture: without the correction, blink to the reference"),
    ("- + < >", "picture: smaller, larger, darker, brighter"),
    ("H J K L", "picture: move what is shown"),
    ("esc q", "back"),
)
CHOOSER_KEYS = (
    ("up down j k", "walk through the subs by weight; g first, G last"),
    ("space b", "blink to the bookmark"),
    ("m", "make this sub the bookmark"),
    ("u", "with or without the gradient correction"),
    ("- + < >", "smaller, larger, darker, brighter"),
    ("left right h l H L", "move what is shown: sideways, up and down"),
    ("r A", "make this one the reference, let nsgd choose"),
    ("↘ ↗", "gradient against the reference, from corner to corner"),
    ("esc q", "back"),
)


def help_table(keys_of_screen: Sequence[tuple[str, str]]) -> Table:
    """Keys and signs with their meaning, wrapped to whatever width there is."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for keys, words in (*keys_of_screen, ("", ""), *SIGNS):
        table.add_row(Text(keys), Text(words))
    return table


class HelpScreen(ModalScreen[None]):
    """Every key of a screen on one page."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1,enter", "dismiss", "Back")]

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._keys = keys

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(help_table(self._keys))


class ChoiceScreen(ModalScreen[int]):
    """Pick one of a few numbers by its words."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", "Back")]

    def __init__(self, title: str, choices: dict[str, int]) -> None:
        super().__init__()
        self._title = title
        self._choices = choices

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self._title), markup=False)
            yield OptionList(*[Text(words) for words in self._choices])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(list(self._choices.values())[event.option_index])


KNOBS: dict[str, tuple[str, float, float, float]] = {
    "transmission": ("transmission below", 0.01, 0.0, 1.0),
    "weight": ("weight below", 0.01, 0.0, 1.0),
    "fwhm_px": ("FWHM above (0 = off)", 0.1, 0.0, 100.0),
    "ellipticity": ("ellipticity above (1 = off)", 0.01, 0.0, 1.0),
}


class LimitsScreen(ModalScreen[CutOffs]):
    """Move the cut-offs and see at once what they would keep; enter asks for them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h,minus", "change(-1)", "Less"),
        Binding("right,l,plus", "change(1)", "More"),
        Binding("shift+left,H", "change(-5)", show=False),
        Binding("shift+right,L", "change(5)", show=False),
        Binding("up,k,shift+tab", "pick(-1)", show=False),
        Binding("down,j,tab", "pick(1)", "Next"),
        Binding("enter", "apply", "Apply"),
        Binding("escape,q,t", "dismiss", "Leave as it was"),
    ]

    def __init__(self, limits: CutOffs, preview: Callable[[CutOffs], str]) -> None:
        super().__init__()
        self._limits = limits
        self._preview = preview
        self._at = 0

    def compose(self) -> ComposeResult:
        yield Static(id="limits", markup=False)

    def on_mount(self) -> None:
        self._draw()

    def action_pick(self, by: int) -> None:
        self._at = (self._at + by) % len(KNOBS)
        self._draw()

    def action_change(self, by: int) -> None:
        name = list(KNOBS)[self._at]
        _, step, low, high = KNOBS[name]
        value = round(min(max(getattr(self._limits, name) + by * step, low), high), 4)
        self._limits = replace(self._limits, **{name: value})
        self._draw()

    def action_apply(self) -> None:
        self.dismiss(self._limits)

    def _draw(self) -> None:
        kept = self._preview(self._limits)
        text = Text("Reject subs with\n")
        for place, (name, (words, *_)) in enumerate(KNOBS.items()):
            chosen = place == self._at
            text.append(
                f"{'>' if chosen else ' '} {words:28}{getattr(self._limits, name):7.2f}\n", "bold" if chosen else ""
            )
        text.append(f"{kept}\n", "bold")
        text.append("left right change  up down choose  enter apply  esc leave", "dim")
        self.query_one("#limits", Static).update(text)
