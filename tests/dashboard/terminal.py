"""A real dashboard in a real pseudo-terminal, its screen read back through a terminal emulator."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyte

CODE = """
import sys
from pathlib import Path
from nsgd.dashboard.start import Terms, run_dashboard
from nsgd.records import CutOffs
terms = Terms(Path(sys.argv[1]), CutOffs(0.75, 0.25, 0.0, 0.6))
"""


def _as_in_a_shell() -> None:
    """Signals do what they do in a login shell, also where the tests run in the background, which ignores some."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """One dashboard on a pty of `columns` x `rows`; all bytes it ever sent are kept."""

    def __init__(
        self,
        store: Path,
        columns: int,
        rows: int,
        environment: Mapping[str, str] | None = None,
        options: str = "",
        answers: Mapping[bytes, bytes] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        own = [
            sys.executable,
            "-c",
            CODE + f"sys.exit(run_dashboard(lambda: terms, folder=terms.store{options}))",
            str(store),
        ]
        self._answers = dict(answers or {})
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.sent = b""
        self._drawn = 0
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            [*command] or own,
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_as_in_a_shell,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})},
        )  # fmt: skip

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, columns * 8, rows * 16))
        self.screen.resize(rows, columns)
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def read(self, seconds: float) -> None:
        """Take in what the dashboard sends for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read_some(left)
        self.draw()

    def read_some(self, most_s: float) -> None:
        """Take in what comes next, without drawing it."""
        if select.select([self._master], [], [], most_s)[0]:
            with contextlib.suppress(OSError):
                found = os.read(self._master, 65536)
                self.sent += found
                for question, answer in self._answers.items():
                    for _ in range(found.count(question)):
                        os.write(self._master, answer)

    def draw(self) -> None:
        """Bring the screen up to date with what came."""
        self._stream.feed(self.sent[self._drawn :])
        self._drawn = len(self.sent)

    def wait_for(self, true: Callable[[str], bool], seconds: float = 15.0) -> str:
        """The screen as soon as something is true of it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(0.05)
            if true(self.text):
                return self.text
        raise AssertionError(f"never came true of this screen:\n{self.text}")

    def press(self, keys: str) -> None:
        for key in keys:
            os.write(self._master, key.encode())
            # A lone escape needs time to be told from the begin of a sequence.
            self.read(0.7 if key == "\x1b" else 0.06)

    def cut(self) -> None:
        """Take the terminal away without a signal, as a dropped line does where nobody passes one on."""
        os.close(self._master)
        self._master = -1

    def quit(self) -> int:
        """Leave whatever is open and quit; returns the exit code."""
        for _ in range(8):
            self.press("\x1bq")
            self.read(0.5)
            if self.process.poll() is not None:
                return int(self.process.returncode)
        raise AssertionError(f"does not quit:\n{self.text}")

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    @property
    def restored(self) -> bool:
        """True where the terminal's modes are as they were before."""
        return termios.tcgetattr(self._slave) == self.before

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        if self._master >= 0:
            os.close(self._master)
        os.close(self._slave)
