"""The small screens that lie over another one: help, a choice of a few, the cut-offs."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static

from nsgd.settings import Limits

HELP = """\
nsgd shows what the daemon measures. Closing this never stops it.

 Look      1 2 3 4 5  transmission, weight, FWHM, stars, sky
           [ ]  series     { }  night     n  one night or all
           + -  zoom in time around the cursor     0  all of it
           p  freeze the display     w  more columns
 Move      up down k j, page up/down, g first, G last, left right h l
           /  filter (word, !word, ok, rejected, failed)   f  jump to a sub
           o  sort the table    enter  everything about one sub
 Decide    x  reject or accept     z  undo     r  make reference
           t  move the cut-offs and see what they would keep
           b  choose the reference by blinking the subs
 Alerts    a  acknowledge     s  snooze
 Screen    T  colours (dark, light, red, 16)     m  braille, blocks, ASCII
           c  copy the path     ctrl+p or :  every command     esc  back

 ● in the stack   × rejected   ! not measured   ✎ decided by you
 T is the transmission against clear sky with the expected extinction
 taken out; W the weight per exposure against the best sub.
"""


class HelpScreen(ModalScreen[None]):
    """Every key on one page."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1,enter", "dismiss", "Back")]

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(Text(HELP), markup=False)


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


class LimitsScreen(ModalScreen[Limits]):
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

    def __init__(self, limits: Limits, preview: Callable[[Limits], str]) -> None:
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
        self._limits = self._limits.model_copy(update={name: value})
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
