"""Decoding that may go wrong, in a process of its own: limited, long-lived, replaced when it dies.

Compressed files can expand a thousandfold, foreign libraries can crash. The parent sends a path and a
budget as one JSON line; the worker answers with a JSON line and the pixels as raw float32. Nothing that
comes back is ever unpickled or executed, so a worker that a hostile file has taken over can only lie
about pixels.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nsgd.errors import NotASub, UnreadableFrame
from nsgd.frames.buffers import empty
from nsgd.frames.formats import format_of
from nsgd.frames.header import Card, Cards, Value
from nsgd.frames.planes import Decoded

WALL_LIMIT_S = 30.0
CPU_LIMIT_S = 25
MEMORY_SLACK_BYTES = 64 << 20
"""Address space that the worker may use besides the budget and what it has when it begins."""
MAX_ANSWER_BYTES = 16 << 20
PIPE_BYTES = 1 << 20
BROKEN = "Decoding this file broke the decoder, took too long or needed too much memory."
KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "TEMP", "HOME")
"""All that the worker gets of our environment, which may hold secrets."""


# ---- in the parent -------------------------------------------------------------------------------


class Decoder:
    """A worker process and the pipe to it; used by one thread at a time, started when first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def cards(self, path: Path) -> Cards:
        """Header entries; raises as the format's reader."""
        return self._exchange(path, 0).cards

    def decode(self, path: Path, budget_bytes: int) -> Decoded:
        """Cards and pixels.

        Raises
        ------
        UnreadableFrame, NotASub
            As the format's reader; also when the worker died or took too long.
        """
        return self._exchange(path, budget_bytes)

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()

    def _exchange(self, path: Path, budget_bytes: int) -> Decoded:
        with self._lock:
            process = self._running()
            alarm = threading.Timer(WALL_LIMIT_S, process.kill)
            alarm.daemon = True
            alarm.start()
            try:
                answer = _ask(process, path, budget_bytes)
                problem = _problem_in(answer)
                decoded = None if problem else _receive(process, answer, budget_bytes)
            except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
                self.close()
                problem, decoded = UnreadableFrame(BROKEN), None
            finally:
                alarm.cancel()
        if decoded is None:
            raise problem or UnreadableFrame(BROKEN)
        return decoded

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _START, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pipesize=PIPE_BYTES,
                env={**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        return self._process


def _ask(process: subprocess.Popen[bytes], path: Path, budget_bytes: int) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    coded_path = base64.b64encode(os.fsencode(path.absolute())).decode()
    process.stdin.write(json.dumps({"path": coded_path, "budget": budget_bytes}).encode() + b"\n")
    process.stdin.flush()
    return dict(json.loads(process.stdout.readline(MAX_ANSWER_BYTES)))


def _problem_in(answer: dict[str, Any]) -> UnreadableFrame | NotASub | None:
    if "error" not in answer:
        return None
    if "kind" in answer:
        return NotASub(str(answer["error"]), str(answer["kind"]))
    return UnreadableFrame(str(answer["error"]), may_retry=bool(answer["may_retry"]))


def _receive(process: subprocess.Popen[bytes], answer: dict[str, Any], budget_bytes: int) -> Decoded:
    """The answer's cards and the pixels that follow it; ValueError where they cannot be right."""
    shape = tuple(int(side) for side in answer["shape"])
    if not 1 <= len(shape) <= 3 or min(shape) < 0 or 4 * math.prod(shape) > budget_bytes:
        raise ValueError(shape)
    pixels = empty(shape)
    window = pixels.reshape(-1).view(np.uint8).data
    while window:
        count = process.stdout.readinto(window)  # type: ignore[union-attr]
        if not count:
            raise ValueError("the pipe has ended")
        window = window[count:]
    cards = {str(key): Card(_plain(value), str(comment)) for key, (value, comment) in answer["cards"].items()}
    return Decoded(cards, pixels, float(answer["type_maximum"]))


def _plain(value: object) -> Value:
    return value if value is None or isinstance(value, bool | int | float | str) else None


_START = "import sys; sys.path[:] = sys.argv[1:]; from nsgd.frames.worker import main; main()"


decoder = Decoder()
"""The one worker of this process."""
atexit.register(decoder.close)
if hasattr(os, "register_at_fork"):  # a forked child must not talk to its parent's worker
    os.register_at_fork(after_in_child=decoder.__init__)  # type: ignore[misc]


# ---- in the worker -------------------------------------------------------------------------------


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    sys.stdout = sys.stderr  # nothing that a library prints may come between the answers
    for line in sys.stdin.buffer:
        request = json.loads(line)
        path, budget_bytes = Path(os.fsdecode(base64.b64decode(request["path"]))), int(request["budget"])
        _load_modules(path, budget_bytes)
        _limit(budget_bytes)
        answer, pixels = _answer(path, budget_bytes)
        _send(out, answer, pixels)
        del pixels


def _load_modules(path: Path, budget_bytes: int) -> None:
    """Import what decoding will need; a missing extra is reported by the reader itself."""
    if budget_bytes:
        for name in format_of(path).modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def _send(out: BinaryIO, answer: dict[str, Any], pixels: bytes | memoryview) -> None:
    out.write(json.dumps(answer).encode() + b"\n")
    out.write(pixels)
    out.flush()


def _answer(path: Path, budget_bytes: int) -> tuple[dict[str, Any], bytes | memoryview]:
    try:
        with FileIO(path) as file:
            if not budget_bytes:
                decoded = Decoded(format_of(path).cards(file), np.empty(0, np.float32))
            else:
                decoded = format_of(path).decode(file, budget_bytes)
    except NotASub as other:
        return {"error": other.sentence, "kind": other.kind}, b""
    except UnreadableFrame as problem:
        return {"error": problem.sentence, "may_retry": problem.may_retry}, b""
    except MemoryError:
        return {
            "error": "Decoding this file needs more memory than allowed (watch.budget_mb).",
            "may_retry": False,
        }, b""
    except Exception as error:  # noqa: BLE001 - a foreign library may raise anything on a broken file
        return {"error": f"This file cannot be decoded ({type(error).__name__}).", "may_retry": True}, b""
    answer = {
        "cards": decoded.cards,
        "shape": decoded.pixels.shape,
        "type_maximum": decoded.type_maximum,
    }
    return answer, np.ascontiguousarray(decoded.pixels[...]).reshape(-1).view(np.uint8).data


def _limit(budget_bytes: int) -> None:
    """Bound memory and processor time of what comes now, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used_s = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used_s) + CPU_LIMIT_S, resource.RLIM_INFINITY))
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        own_bytes = pages * resource.getpagesize()
        most_bytes = own_bytes + budget_bytes + MEMORY_SLACK_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, resource.RLIM_INFINITY))
