"""`python -m nsgd` is the same as `nsgd`."""

from nsgd.cli import main

main()
