"""The invariants of the control plane, over random operations and against a naive model.

1. Free and referenced blocks are the pool, and no block is both.
2. A block's references are the tree's, if it is published, and those of the leases that list it.
3. What `acquire` reports as cached was committed earlier, with the same tokens and namespace.
4. Leased blocks are never evicted, written by others or returned twice.
5. A failed call changes nothing.
6. A draining block is not written, and what is loaded is what was evicted.
"""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.cache.driver import OPERATIONS, Driver
from tests.cache.tiered_driver import TIERED_OPERATIONS, TieredDriver

NAMESPACES: list[str | bytes] = ["", "", "", "b", b"b"]


class CacheMachine(RuleBasedStateMachine):
    """One rule draws the operation, so that every run has all of them in proportion."""

    block_size = 4
    num_blocks = 9

    kind: type[Driver] = Driver
    operations = OPERATIONS

    def __init__(self) -> None:
        super().__init__()
        self.driver = self.kind(self.num_blocks, self.block_size)

    @rule(
        number_of_operation=st.integers(0, 10_000),
        tokens=st.lists(st.integers(0, 1), min_size=1, max_size=14),
        namespace=st.sampled_from(NAMESPACES),
        pick=st.integers(0, 5),
        number=st.integers(0, 6),
    )
    def step(
        self, number_of_operation: int, tokens: list[int], namespace: str | bytes, pick: int, number: int
    ) -> None:
        operation = self.operations[number_of_operation % len(self.operations)]
        self.driver.step(operation, tokens, namespace, pick, number)

    @invariant()
    def sound(self) -> None:
        self.driver.sound()

    def teardown(self) -> None:
        self.driver.finish()


class SingleTokenBlocks(CacheMachine):
    block_size = 1
    num_blocks = 24


class TinyPool(CacheMachine):
    block_size = 2
    num_blocks = 5


class Tiered(CacheMachine):
    kind = TieredDriver
    operations = TIERED_OPERATIONS


class TieredTinyBlocks(Tiered):
    block_size = 2
    num_blocks = 12


_settings = settings(
    max_examples=25, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
for _machine in (CacheMachine, SingleTokenBlocks, TinyPool, Tiered, TieredTinyBlocks):
    _machine.TestCase.settings = _settings

TestCache = CacheMachine.TestCase
TestSingleTokenBlocks = SingleTokenBlocks.TestCase
TestTinyPool = TinyPool.TestCase
TestTiered = Tiered.TestCase
TestTieredTinyBlocks = TieredTinyBlocks.TestCase


@pytest.mark.parametrize(
    ("num_blocks", "block_size", "longest"), [(9, 4, 20), (40, 1, 24), (6, 2, 12), (5, 16, 50), (30, 3, 30)]
)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("kind", "operations"), [(Driver, OPERATIONS), (TieredDriver, TIERED_OPERATIONS)])
def test_soak(
    kind: type[Driver], operations: tuple[str, ...], num_blocks: int, block_size: int, longest: int, seed: int
) -> None:
    rng = random.Random(f"{num_blocks} {block_size} {seed}")
    driver = kind(num_blocks, block_size)
    for _ in range(400):
        vocabulary = rng.choice([[0], [0, 1], [0, 0, 0, 1], [0, 1, 256]])
        driver.step(
            rng.choice(operations),
            rng.choices(vocabulary, k=rng.randint(1, longest)),
            rng.choice(NAMESPACES),
            rng.randrange(6),
            rng.randrange(7),
        )
        driver.sound()
    driver.finish()
