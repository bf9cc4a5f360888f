"""`python -m airsim` is the command `airsim`."""

from airsim.cli import main

main()
