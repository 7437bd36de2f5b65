"""Where the package keeps what it need not make twice."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """`$RADIXCACHE_HOME`, or `radixcache` in the user's cache: `$XDG_CACHE_HOME`, or `~/.cache` if unset.

    Nothing is created here.
    """
    home = os.environ.get("RADIXCACHE_HOME")
    if home:
        return Path(home).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache") / "radixcache"
