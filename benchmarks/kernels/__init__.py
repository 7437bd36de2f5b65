"""Attention kernels on a GPU: how close to the device's own limits, and to torch's attention."""
