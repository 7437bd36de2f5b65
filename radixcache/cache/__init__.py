"""The control plane: which prefixes are cached, in which blocks, and who leaves first. Imports no torch."""
