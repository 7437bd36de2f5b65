"""Whether the longest tests try everything (RADIXCACHE_THOROUGH=1), or an even selection that fits a gate."""

from __future__ import annotations

import os

THOROUGH = os.environ.get("RADIXCACHE_THOROUGH") == "1"
