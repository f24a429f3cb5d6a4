"""nsgd watches a capture folder and measures, judges and reports every sub as it lands.

The rooms, from the bottom up: `records`, `errors` | `settings` | `frames`, `measure`, `session`,
`config` | `walk`, `pictures` | `daemon`, `dashboard`, `export`, `simulate` | `cli`.
A room imports from lower storeys only. Start reading at `walk`: it is one sub's whole way.
"""

__version__ = "0.1.0"
