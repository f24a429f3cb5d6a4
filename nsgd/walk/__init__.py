"""One file's whole way: frame -> facts -> relation -> what to commit.

`pixels` turns a file into facts (in this process or another), `walker` is the memory of an open store and
makes the commit, `fit` relates a whole series anew from stored facts, `ahead` measures a backlog on several
cores. May import session, measure, frames and below. Start reading at `walker.Walker`.
"""

from nsgd.walk.ahead import outcomes, worker_pool
from nsgd.walk.fit import best_reference, final_series, fit_series, reference_reason
from nsgd.walk.pixels import Outcome
from nsgd.walk.walker import Walker, ordering_time

__all__ = [
    "Outcome",
    "Walker",
    "best_reference",
    "final_series",
    "fit_series",
    "ordering_time",
    "outcomes",
    "reference_reason",
    "worker_pool",
]
