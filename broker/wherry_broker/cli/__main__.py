"""`python -m wherry_broker.cli` is `wherry`."""

from wherry_broker.cli import main

main()
