"""The batches that are measured, at their full size and at a tiny one of the same structure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """An attention layer: query heads, KV heads, width of a head."""

    heads: int
    kv_heads: int
    head_dim: int


LLAMA_8B = Shape(32, 8, 128)
TINY = Shape(4, 2, 16)

# Parts of a sequence by name, in order, with their tokens. Sequences that name a part alike share it, as
# nodes of the tree are shared: a part must have the same parts before it wherever it occurs.
Parts = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a case should reach: `measure` at least, or at most, `value`."""

    measure: str
    value: float
    at_most: bool = False

    def met(self, found: float) -> bool:
        """Whether `found` is as good as wished."""
        return found <= self.value if self.at_most else found >= self.value


@dataclass(frozen=True, slots=True)
class Case:
    """A batch.

    Attributes:
        name: short, for the results file.
        label: for the table.
        sequences: what each is made of.
        new_tokens: query rows of each sequence; 1 is a decode.
        kv_format: "plain" (the dtype of the queries), "int8", "fp8" or "int4".
        goals: by measure.
        peers: which of torch's own attentions to compare with.
        base: name of the case whose time is divided by this one's.
    """

    name: str
    label: str
    sequences: tuple[Parts, ...]
    new_tokens: int = 1
    kv_format: str = "plain"
    goals: tuple[Goal, ...] = ()
    peers: tuple[str, ...] = ()
    base: str | None = None
    lengths: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(sum(n for _, n in parts) for parts in self.sequences))

    @property
    def shares(self) -> bool:
        """Some part belongs to several sequences."""
        names = [name for parts in self.sequences for name, _ in parts]
        return len(set(names)) < len(names)


def make_cases(*, tiny: bool, seed: int) -> list[Case]:
    """All cases, in the order of the table."""
    k = 4 if tiny else 1024  # what a thousand tokens shrink to
    few = 4 if tiny else 64
    rng = random.Random(seed)
    ragged = tuple(int(k * 32 ** rng.random()) for _ in range(6 if tiny else 128))
    cases = [
        Case(
            "decode-64x8k",
            "decode 64 x 8 k",
            _private([8 * k] * few),
            goals=(Goal("copy_fraction", 0.85),),
            peers=("sdpa", "flex"),
        ),
        Case(
            "decode-8x128k",
            "decode 8 x 128 k",
            _private([(32 if tiny else 128) * k] * (2 if tiny else 8)),
            goals=(Goal("copy_fraction", 0.85),),
            peers=("sdpa",),
        ),
        Case(
            "decode-ragged",
            "decode 128, ragged 1-32 k",
            _private(ragged),
            goals=(Goal("copy_fraction", 0.75),),
            peers=("sdpa", "flex"),
        ),
        Case(
            "shared-16k",
            "shared 16 k + 512 each, 64",
            tuple((("shared", 16 * k), (f"own-{i}", k // 2)) for i in range(few)),
            goals=(Goal("over_unshared", 8.0),),
            peers=("sdpa",),
        ),
        Case(
            "tree",
            "4 k, 8 x 8 k, 64 x 1 k",
            tuple((("system", 4 * k), (f"document-{i % 8}", 8 * k), (f"chat-{i}", k)) for i in range(few)),
            goals=(Goal("over_unshared", 3.0), Goal("over_bound", 1.3, at_most=True)),
            peers=("sdpa",),
        ),
    ]
    for thousands in (1, 2, 4):
        cases.append(
            Case(
                f"shared-{thousands}k",
                f"shared {thousands} k + 64 each, 32",
                tuple(
                    (("shared", (8 if tiny else 1) * thousands * k), (f"own-{i}", 3 if tiny else 64))
                    for i in range(4 if tiny else 32)
                ),
                goals=(Goal("over_unshared", 3.2),),
                peers=("sdpa",),
            )
        )
    faster = Goal("over_base", 1.7)
    cases.append(
        Case(
            "prefill-1k-31k",
            "prefill 1 k over 31 k, 4",
            _private([32 * k] * (2 if tiny else 4)),
            new_tokens=k,
            goals=(Goal("over_sdpa", 0.9),),
            peers=("sdpa", "flex"),
        )
    )
    for kv_format, goals in (("int8", (faster,)), ("fp8", (faster,)), ("int4", ())):
        cases.append(
            Case(
                f"decode-64x8k-{kv_format}",
                f"decode 64 x 8 k, {kv_format}",
                _private([8 * k] * few),
                kv_format=kv_format,
                goals=goals,
                base="decode-64x8k",
            )
        )
    return cases


def _private(lengths: list[int] | tuple[int, ...]) -> tuple[Parts, ...]:
    return tuple(((f"own-{i}", length),) for i, length in enumerate(lengths))
