"""Row rules: found for operations that round by row count in known ways, and what calls they lead to."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from radixcache.numerics.inputs import cancelling_product
from radixcache.numerics.products import row_pieces
from radixcache.numerics.rules import RowRule, find_rule

COUNTS = (*range(1, 17), 20, 24, 28, 32, 48, 64, 96, 128)
ROWS = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))


def rounding(kind: Callable[[int, int], int]) -> Callable[[int, int], tuple[Tensor]]:
    """An operation whose rows come out in one of several ways, by row count and place among the rows."""

    def call(first: int, count: int) -> tuple[Tensor]:
        shift = torch.tensor([float(kind(count, place)) for place in range(count)])
        return (ROWS[first : first + count] + 1e-3 * shift[:, None],)

    return call


def test_an_operation_that_always_rounds_alike_takes_any_number_of_rows() -> None:
    rule = find_rule(rounding(lambda count, place: 0), COUNTS, 32)
    assert rule is not None
    assert (rule.step, rule.most) == (1, 128)
    assert rule.pieces(77) == [77]


@pytest.mark.parametrize("step", [2, 4, 8, 16])
def test_remainders_that_round_otherwise_are_padded_away(step: int) -> None:
    rule = find_rule(rounding(lambda count, place: count % step), COUNTS, 32)
    assert rule is not None
    assert rule.step == step
    assert rule.pieces(5) == [-(-5 // step) * step]


def test_few_rows_that_round_otherwise_are_padded_to_the_fewest_that_do_not() -> None:
    rule = find_rule(rounding(lambda count, place: count if count < 4 else 0), COUNTS, 32)
    assert rule is not None
    assert rule.pieces(1) == [4]
    assert rule.pieces(100) == [100]


def test_exact_sizes_serve_where_no_multiple_does() -> None:
    # As bfloat16 products with matrix units: every number of rows for itself, but for some that agree.
    alike = {8, 16, 64, 128}
    rule = find_rule(rounding(lambda count, place: 0 if count in alike else count), COUNTS, 32)
    assert rule is not None
    assert rule.step == 0
    assert set(rule.sizes) == alike
    assert rule.pieces(3) == [8]
    assert sum(rule.pieces(200)) >= 200
    assert set(rule.pieces(200)) <= alike


def test_numbers_at_which_a_rows_place_matters_are_not_used() -> None:
    for period in (2, 3, 5):
        rule = find_rule(rounding(lambda count, place, p=period: place % p if count > 1 else 0), COUNTS, 32)
        assert rule == RowRule(0, (1,))


@given(rows=st.integers(1, 3000), sizes=st.sets(st.integers(1, 300), min_size=1), step=st.integers(0, 8))
def test_pieces_cover_all_rows_and_are_numbers_that_the_rule_allows(
    rows: int, sizes: set[int], step: int
) -> None:
    if step:
        sizes = {size * step for size in sizes}
    rule = RowRule(step, tuple(sorted(sizes)))
    pieces = rule.pieces(rows)
    assert all(rule.fits(piece) for piece in pieces)
    assert rows <= sum(pieces) < rows + rule.most
    assert sum(pieces[:-1]) < rows


@given(rows=st.integers(1, 200))
def test_rows_are_cut_in_order_and_filled_up_with_zeros(rows: int) -> None:
    given_rows = torch.arange(1.0, 2 * rows + 1).view(rows, 2)
    joined = torch.cat(row_pieces(given_rows, RowRule(0, (16, 64))))
    assert torch.equal(joined[:rows], given_rows)
    assert not joined[rows:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_cancelling_products_show_another_order_of_summing(dtype: torch.dtype) -> None:
    x, weight = cancelling_product(8, 96, 40, dtype)
    assert (x.double() @ weight.double().T).abs().max() < 1e-9
    forwards, backwards = torch.zeros(2, 8, 40)
    for place in range(96):
        forwards += x[:, place, None].float() * weight[:, place].float()
        backwards += x[:, 95 - place, None].float() * weight[:, 95 - place].float()
    assert (forwards.to(dtype) != backwards.to(dtype)).float().mean() > 0.8
