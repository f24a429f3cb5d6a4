"""Workers on other machines (extra `cluster`): dask.distributed as the executor that files are sent ahead to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nsgd import __version__
from nsgd.errors import BadRequest
from nsgd.measure.recipe import RECIPE

AHEAD = 4
"""Files a thread that are under way at once: none starves while the next one in order is waited for."""
PATIENCE_S = 15.0
"""For the scheduler and its first worker to answer."""


class Cluster(NamedTuple):
    """What `outcomes` needs of a cluster, in the order of its parameters."""

    executor: Executor
    ahead: int
    deadly: tuple[type[Exception], ...]


@contextmanager
def cluster(address: str, folders: Sequence[Path]) -> Iterator[Cluster]:
    """The workers of a scheduler, once it is sure that they give what this process would.

    Parameters
    ----------
    address
        Of the scheduler, e.g. `tcp://10.0.0.5:8786` or `tls://...`.
    folders
        What every worker must see under the same path: the captures, and where previews go.

    Raises
    ------
    BadRequest
        The extra is missing, nobody answers, no worker is there, or one of them cannot see a folder or runs
        another nsgd.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError as problem:
        raise BadRequest("--cluster needs dask.distributed: pip install 'nsgd[cluster]'.") from problem
    try:
        client = Client(address, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, ImportError) as problem:
        raise BadRequest(f"No scheduler answers at {address}: start `dask scheduler` there.") from problem
    with client:
        _look_at_workers(client, address, folders)
        threads = sum(client.nthreads().values())
        yield Cluster(client.get_executor(pure=False), AHEAD * threads, (KilledWorker,))


def _look_at_workers(client: Any, address: str, folders: Sequence[Path]) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
        found = client.run(sees, [str(folder) for folder in folders])
    except TimeoutError as problem:
        raise BadRequest(f"The scheduler at {address} has no worker: start `dask worker {address}`.") from problem
    except ImportError as problem:
        raise BadRequest(f"A worker of {address} has no nsgd: install version {__version__} there.") from problem
    for worker, (version, recipe, unseen) in sorted(found.items()):
        if (version, recipe) != (__version__, RECIPE):
            raise BadRequest(
                f"The worker {worker} runs nsgd {version} (recipe {recipe}), this is {__version__} (recipe {RECIPE}): "
                "install the same on both, or its figures would differ."
            )
        if unseen:
            raise BadRequest(f"The worker {worker} does not see {unseen[0]}: mount it there under the same path.")


def sees(folders: Sequence[str]) -> tuple[str, int, list[str]]:
    """Runs on a worker: its nsgd's version and recipe, and which folders it does not see."""
    return __version__, RECIPE, [folder for folder in folders if not Path(folder).exists()]
