"""Keys: two namespaces never share a block."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis import given

from radixcache.cache.digest import block_digests, namespace_digest
from radixcache.cache.namespaces import encode_namespace, namespace_key
from radixcache.cache.prefix_cache import PrefixCache
from radixcache.tokens import pack
from tests.cache.serving import computed, serve

parts = st.none() | st.text(max_size=4) | st.binary(max_size=4)


def test_salts_never_share() -> None:
    cache = PrefixCache(32, 4)
    named = [namespace_key(salt="a"), namespace_key(model="a"), namespace_key(adapter="a")]
    keys: list[str | bytes] = ["", "a", b"a", *named]
    leases = []
    for key in keys:
        assert cache.match(range(9), key) == 0
        leases.append(computed(cache, range(9), key))
    blocks = list(itertools.chain.from_iterable(lease.block_table for lease in leases))
    assert len(blocks) == len(set(blocks))
    for key in keys:
        assert cache.match([*range(9), 1], key) == 8


@given(st.tuples(parts, parts, parts), st.tuples(parts, parts, parts))
def test_a_salt_cannot_be_forged_by_an_adapter_name(
    one: tuple[str | bytes | None, ...], two: tuple[str | bytes | None, ...]
) -> None:
    keys = [namespace_key(salt=k[0], model=k[1], adapter=k[2]) for k in (one, two)]
    assert (keys[0] == keys[1]) == (one == two)


def test_no_part_of_a_key_can_imitate_another() -> None:
    adapter = namespace_key(salt=None, model=None, adapter="x")
    assert namespace_key(salt=adapter) != adapter
    assert namespace_key(salt="a", adapter="bc") != namespace_key(salt="ab", adapter="c")
    assert namespace_key(salt="") != namespace_key()
    assert namespace_key(salt="a") != namespace_key(salt=b"a")
    assert encode_namespace("a") != encode_namespace(b"a")


def test_reloading_an_adapter_under_another_version_changes_the_key() -> None:
    cache = PrefixCache(32, 4)
    serve(cache, range(9), namespace=namespace_key(model="m", adapter="lora@1"))
    assert cache.match(range(9), namespace_key(model="m", adapter="lora@1")) == 8
    assert cache.match(range(9), namespace_key(model="m", adapter="lora@2")) == 0


def test_session_ids_are_no_part_of_a_key() -> None:
    cache = PrefixCache(32, 4)
    for _session in ("first", "second"):
        key = namespace_key(salt="tenant", model="m")
        hit = serve(cache, range(9), namespace=key)
    assert hit == 8


def test_the_same_tokens_at_another_position_differ() -> None:
    cache = PrefixCache(32, 4)
    serve(cache, [*range(8), *range(4)])
    with computed(cache, [*range(4), *range(4)]) as lease:
        assert lease.num_cached_tokens == 4
        assert lease.block_table[1] != lease.block_table[0]
    root = namespace_digest("")
    first, second = block_digests(root, pack([*range(4), *range(4)]), 16)
    assert first != second


def test_digests_depend_on_namespace_tokens_and_everything_before() -> None:
    tokens = pack(range(12))
    one = block_digests(namespace_digest("a"), tokens, 16)
    assert len(one) == 3
    assert all(len(digest) == 16 for digest in one)
    assert one == block_digests(namespace_digest("a"), tokens, 16)
    assert not set(one) & set(block_digests(namespace_digest(b"a"), tokens, 16))
    changed = block_digests(namespace_digest("a"), pack([9, *range(1, 12)]), 16)
    assert not set(one) & set(changed)


def test_an_empty_namespace_is_forgotten() -> None:
    cache = PrefixCache(32, 4)
    for tenant in range(50):
        lease = cache.acquire(range(8), f"tenant {tenant}")
        lease.release()
        serve(cache, range(8), namespace="kept")
        cache.match(range(8), f"another {tenant}")
    assert set(cache.store.tree.roots) == {"kept"}
    cache.evict(100)
    assert not cache.store.tree.roots
