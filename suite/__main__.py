"""`python -m suite` is `stages`."""

from suite.cli import main

main()
