"""What moves and attends over KV on a device: torch on a CPU, Triton kernels on a GPU."""

from __future__ import annotations

from radixcache.engine.backends.base import Backend, LayerOptions
from radixcache.kv.pool import PagedPool

__all__ = ["Backend", "LayerOptions", "make_backend"]


def make_backend(pool: PagedPool, name: str = "auto") -> Backend:
    """The backend of the pool's device, or the one named.

    Args:
        pool: the pool that it serves.
        name: "auto", "torch", or "triton" (on a CPU only in Triton's interpreter).

    Raises:
        ValueError: that backend does not run on the pool's device.
    """
    if name == "auto":
        name = "triton" if pool.device.type == "cuda" else "torch"
    if name == "triton":
        from radixcache.engine.backends.triton import TritonBackend
        from radixcache_kernels.jit import INTERPRETED

        if pool.device.type == "cpu" and not INTERPRETED:
            raise ValueError(
                "backend is 'triton', which on a CPU needs Triton's interpreter (TRITON_INTERPRET=1)"
            )

        return TritonBackend(pool)
    from radixcache.engine.backends.torch.backend import TorchBackend

    return TorchBackend(pool)
