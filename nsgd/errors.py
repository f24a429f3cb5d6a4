"""What can go wrong, typed by what the caller should do.

::

    NsgdError                    one clear sentence with the remedy; carries its numbers
    ├── BadSettings              stop and tell the user every problem at once (exit code 78)
    ├── BadRequest               the user asked for something that cannot be (exit code 2)
    ├── FileProblem              about one file of the capture folder
    │   ├── UnreadableFrame      try again when the file changes, then quarantine (`may_retry`)
    │   └── NotASub              count it and go on: dark, flat, bias, snapshot, stacked picture
    ├── MeasureFailure           the sub is committed as a failure with kind and numbers
    ├── StoreProblem             about the night's memory
    │   ├── StoreLocked          another daemon owns it: exit
    │   ├── StoreUnwritable      keep measuring in memory, say so once, try again
    │   ├── StoreDamaged         move it aside and rebuild from the files
    │   └── StoreUnusable        newer schema, network file system: exit with the remedy
    ├── FleetProblem             the fleet's database cannot be used now: go on alone, try again
    ├── ClusterLost              the workers are out of reach: stop, a second run goes on from there
    └── ExportProblem            the export stops; nothing half-written stays
"""

from __future__ import annotations

from collections.abc import Mapping


class NsgdError(Exception):
    """Base of all errors that nsgd raises on purpose.

    Parameters
    ----------
    sentence
        What happened and what to do, as one sentence for the user.
    numbers
        The figures behind it, kept for the store and for tests.
    """

    def __init__(self, sentence: str, **numbers: float | int | str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.numbers: Mapping[str, float | int | str] = numbers


class BadSettings(NsgdError):
    """The settings cannot be used; `problems` lists every one of them."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class BadRequest(NsgdError):
    """The user asked for something that does not exist or cannot be done."""


class FileProblem(NsgdError):
    """Something about one file of the capture folder."""


class UnreadableFrame(FileProblem):
    """The file cannot be read now; `may_retry` says whether a later look may succeed."""

    def __init__(self, sentence: str, *, may_retry: bool = False, **numbers: float | int | str) -> None:
        super().__init__(sentence, **numbers)
        self.may_retry = may_retry


class NotASub(FileProblem):
    """The file is whole and fine, but it is no sub; `kind` says what it is (`dark`, `snapshot`...)."""

    def __init__(self, sentence: str, kind: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class MeasureFailure(NsgdError):
    """The sub cannot be measured; `kind` is a short stable word (`no_match`, `no_stars`...)."""

    def __init__(self, kind: str, sentence: str, **numbers: float | int | str) -> None:
        super().__init__(sentence, **numbers)
        self.kind = kind


class StoreProblem(NsgdError):
    """Something about the store, the night's memory."""


class StoreLocked(StoreProblem):
    """Another daemon owns this store."""


class StoreUnwritable(StoreProblem):
    """The store cannot be written now (disk full, read-only); trying again may succeed."""


class StoreDamaged(StoreProblem):
    """The store's content is broken; it is moved aside and rebuilt from the files."""


class StoreUnusable(StoreProblem):
    """The store cannot be used by this program here (newer schema, network file system)."""


class FleetProblem(NsgdError):
    """The fleet's database cannot be reached, or refuses."""


class ClusterLost(NsgdError):
    """The scheduler that files were sent to is out of reach."""


class ExportProblem(NsgdError):
    """An export cannot be made."""
