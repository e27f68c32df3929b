"""Writes the rows of every program again: python -m infra.testing_pulumi --write."""

import sys

from infra.testing_pulumi.files import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
