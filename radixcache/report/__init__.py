"""Reports of runs: terminal and JSON."""
