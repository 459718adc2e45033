"""`python -m dualshard.deploy` is the `dualshard` command: how launchers start roles."""

from .cli import main

main()
