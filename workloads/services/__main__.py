"""`python -m workloads.services <name>`: run one service with the settings of its environment."""

from __future__ import annotations

import sys

from workloads.services import WRONG_USAGE, run
from workloads.settings import SERVICES


def main(arguments: list[str]) -> int:
    """Return the exit status; 254 without exactly one name."""
    if len(arguments) != 1:
        print(f"usage: python -m workloads.services {{{'|'.join(SERVICES)}}}", file=sys.stderr)
        return WRONG_USAGE
    return run(arguments[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
