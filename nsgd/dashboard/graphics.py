"""Ask the terminal whether it draws pixels: the question goes out early, and the answer is read when it has come."""

from __future__ import annotations

import os
import re
import select
import sys
from importlib.util import find_spec
from typing import Any

# Kitty's own test picture, then the question that every terminal answers.
_QUESTION = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"


class Question:
    """One question, put to the terminal when it is made, before the screen is taken over."""

    def __init__(self) -> None:
        self._modes: list[Any] | None = None
        if find_spec("textual_image") is None or sys.__stdin__ is None or sys.__stdout__ is None:
            return
        if not (sys.__stdin__.isatty() and sys.__stdout__.isatty()):
            return
        try:
            import termios
            import tty
        except ImportError:
            return  # no POSIX terminal: half blocks are drawn everywhere
        self._modes = termios.tcgetattr(sys.__stdin__)
        tty.setcbreak(sys.__stdin__, termios.TCSANOW)
        os.write(sys.__stdout__.fileno(), _QUESTION)

    def answer(self) -> str:
        """What the terminal can draw as far as it has said so: "sixel", "kitty", or "" for none."""
        if self._modes is None or sys.__stdin__ is None:
            return ""
        import termios

        keyboard, said = sys.__stdin__.fileno(), b""
        try:
            while not re.search(rb"\x1b\[\?[\d;]*c", said) and select.select([keyboard], [], [], 0.0)[0]:
                found = os.read(keyboard, 256)
                if not found:
                    break
                said += found
        finally:
            termios.tcsetattr(keyboard, termios.TCSANOW, self._modes)
        return graphics_in(said)


def graphics_in(answer: bytes) -> str:
    """The pixel graphics that a terminal's answer speaks of."""
    attributes = re.search(rb"\x1b\[\?([\d;]*)c", answer)
    if attributes and b"4" in attributes.group(1).split(b";"):
        return "sixel"
    return "kitty" if b"\x1b_Gi=31;OK" in answer else ""
