"""PrefixCache alone, driving an engine of your own; no torch involved.

The cache decides which blocks hold which tokens; the engine owns what is in them. Here the "KV"
of a position is a checksum of every token up to it, so that a block reused wrongly, a copy
forgotten or a stale slot would show at once: after each step everything is read back through the
block table and compared.

    python examples/bring_your_own_engine.py
"""

from __future__ import annotations

from contextlib import ExitStack
from zlib import crc32

from radixcache import BlockCopy, Lease, PrefixCache
from radixcache.tokens import unpack

NUM_BLOCKS = 64
BLOCK_SIZE = 16
UNWRITTEN = -1

SYSTEM = "You are the assistant of a bicycle shop. Answer in one sentence. "
FIRST = SYSTEM + "Customer: do you repair old wheels?"
SECOND = SYSTEM + "Customer: do you rent bikes?"


class ToyEngine:
    """A paged pool of checksums instead of keys and values, and a "model" that continues them."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self.pool = [[UNWRITTEN] * block_size for _ in range(num_blocks)]
        self.computed_tokens = 0

    def step(self, lease: Lease) -> None:
        """Compute what the lease lacks: its copies first, then its positions one by one."""
        for block in lease.fresh_blocks:
            self.pool[block] = [UNWRITTEN] * self.block_size
        for copy in lease.copies:
            self._copy(copy)
        start = lease.num_computed_tokens
        for position, token in enumerate(unpack(lease.tokens)[start:], start):
            before = self.read(lease, position - 1) if position else 0
            block = lease.block_table[position // self.block_size]
            self.pool[block][position % self.block_size] = _checksum(token, before)
            self.computed_tokens += 1
        lease.commit(lease.num_tokens)
        self.check(lease)

    def next_token(self, lease: Lease, choice: int = 0) -> int:
        """A letter that depends on the whole sequence, as a language model's would."""
        return ord("a") + (self.read(lease, lease.num_tokens - 1) + choice) % 26

    def read(self, lease: Lease, position: int) -> int:
        """The "KV" of a position, found through the block table as an attention kernel would."""
        return self.pool[lease.block_table[position // self.block_size]][position % self.block_size]

    def check(self, lease: Lease) -> None:
        """Compare all that the lease can read with what computing it alone would give."""
        expected = 0
        for position, token in enumerate(unpack(lease.tokens)):
            expected = _checksum(token, expected)
            found = self.read(lease, position)
            assert found == expected, f"position {position} holds {found}, not {expected}"

    def _copy(self, copy: BlockCopy) -> None:
        self.pool[copy.target][: copy.num_tokens] = self.pool[copy.source][: copy.num_tokens]


def generate(cache: PrefixCache, engine: ToyEngine, prompt: str, num_tokens: int, namespace: str = "") -> str:
    """Answer a prompt, print what of it was reused, and return the answer."""
    with cache.acquire(list(prompt.encode()), namespace) as lease:
        print(f"{prompt!r}")
        print(f"  reused {lease.num_cached_tokens} of {lease.prompt_tokens} tokens, {_why(lease)}")
        for copy in lease.copies:
            print(f"  {copy.num_tokens} of them copied from block {copy.source} to {copy.target}")
        engine.step(lease)
        for _ in range(num_tokens):
            lease.extend([engine.next_token(lease)])
            engine.step(lease)
        answer = bytes(unpack(lease.tokens)[lease.prompt_tokens :]).decode()
    print(f"  answer: {answer!r}")
    return answer


def sample(cache: PrefixCache, engine: ToyEngine, prompt: str, num_tokens: int, n: int) -> list[str]:
    """Continue one prompt `n` times: computed once, forked, blocks copied only where written."""
    print(f"{prompt!r}, {n} times over")
    with ExitStack() as stack:
        lease = stack.enter_context(cache.acquire(list(prompt.encode())))
        engine.step(lease)
        branches = [stack.enter_context(lease.fork()) for _ in range(n)]
        copied = 0
        for _ in range(num_tokens):
            for choice, branch in enumerate(branches):
                branch.extend([engine.next_token(branch, choice)])
                copied += len(branch.copies)
                engine.step(branch)
        engine.check(lease)  # no branch has written into what it shares
        tables = [branch.block_table for branch in branches]
        separate, together = sum(map(len, tables)), len({block for table in tables for block in table})
        answers = [bytes(unpack(branch.tokens)[lease.prompt_tokens :]).decode() for branch in branches]
    print(f"  answers: {', '.join(map(repr, answers))}")
    print(f"  {together} blocks instead of {separate}, {copied} of them copied when first written")
    return answers


def main() -> None:
    """A few prompts that share prefixes, checked position by position."""
    cache = PrefixCache(NUM_BLOCKS, BLOCK_SIZE)
    engine = ToyEngine(NUM_BLOCKS, BLOCK_SIZE)

    answer = generate(cache, engine, FIRST, 20)
    generate(cache, engine, SECOND, 20)  # shares the system prompt, to the token
    generate(cache, engine, FIRST + answer + " Customer: and brakes?", 20)  # the answer is reused, too
    generate(cache, engine, FIRST, 20, namespace="another shop")  # tenants share nothing

    sample(cache, engine, FIRST, 20, n=3)

    stats = cache.stats()
    print(
        f"{stats.requests} requests, {stats.cached_tokens} of {stats.prompt_tokens} prompt tokens reused, "
        f"{engine.computed_tokens} tokens computed; every value read back was right"
    )
    assert stats.protected_blocks == 0, "a lease was not released"


def _checksum(token: int, before: int) -> int:
    return crc32(token.to_bytes(4, "little"), before)


def _why(lease: Lease) -> str:
    missed = ", ".join(f"{reason} {tokens}" for reason, tokens in lease.misses.items() if tokens)
    return f"missed: {missed or 'none'}"


if __name__ == "__main__":
    main()
