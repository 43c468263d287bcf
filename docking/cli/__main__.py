"""`python -m docking.cli`: the command `portcall` where its script is not on the PATH."""

from docking.cli import main

main()
