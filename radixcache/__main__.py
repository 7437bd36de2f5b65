"""`python -m radixcache`, and what the installed command runs."""

from __future__ import annotations

import sys

__all__ = ["run"]

_EXIT_INTERRUPTED = 130


def run() -> int:
    """The command line; an interrupt while it is still being loaded ends it as quietly as later ones do."""
    try:
        from radixcache.cli import main

        return main()
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())
