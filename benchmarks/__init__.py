"""Benchmarks of radixcache; each is run as `python -m benchmarks.NAME` from the checkout."""

import os

# Read when torch loads its OpenMP runtime. Spinning threads take the cores that another engine,
# or this one's own control thread, is waiting for; a few microseconds of it spare a small
# step's many short operations a wake-up each. Every engine measured gets the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
