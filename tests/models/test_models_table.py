"""The program that tries every model type tells served, refused and wrong apart."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import models_table
from benchmarks.models_table import REFUSED, WORKS, WRONG, Outcome, try_type
from benchmarks.tiny_types import causal_types
from radixcache.engine import runner


def test_served_and_refused_types_are_told_apart() -> None:
    assert try_type("llama", {}) == Outcome("llama", WORKS, "")
    assert try_type("bert", {}) == Outcome("bert", REFUSED, "is bidirectional: a token sees later ones")
    kind, result, reason = try_type("roberta", {"is_decoder": True})
    assert (kind, result) == ("roberta (is_decoder=True)", REFUSED)
    assert "other logits" in reason


def test_a_type_that_is_served_wrong_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "check_model", lambda *_: None)
    found = try_type("roberta", {"is_decoder": True})
    assert (found.result, found.reason) == (WRONG, "other tokens than transformers in pieces")


def test_a_traceback_is_called_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise IndexError("off the end")

    monkeypatch.setattr(runner, "check_model", fail)
    assert try_type("llama", {}) == Outcome("llama", WRONG, "IndexError: off the end")


def test_a_configuration_alone_is_enough_to_refuse() -> None:
    assert try_type("musicgen", {}).result == REFUSED


def test_the_document_names_every_outcome() -> None:
    outcomes = [Outcome("a", WORKS, ""), Outcome("b", REFUSED, "x | y"), Outcome("c", WRONG, "z")]
    text = models_table._document(outcomes)
    assert "1 work, 1 are refused, 0 could not be tried." in text
    assert "| `b` | x / y |" in text
    assert "## Wrong" in text
    assert "## Not tried" not in text
    assert len(causal_types()) > 150
