"""What nsgd survives, each a command: `python -m tests.benchmarks.survive COMMAND` (`--help` lists them).

Every disturbed night is compared with an undisturbed one over the same files: subs.csv byte for byte, and the alerts.
A sample of each runs with the default tests (tests/e2e/test_survival.py).
"""

import os

# Before numpy: the benches measure one worker beside others.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
