"""Whether a model can be served is found out by trying: through the pool against its own forward pass.

What a model's configuration and class say is not enough: some attend to later tokens, attend twice a layer,
keep keys and values of another shape than they state, take positions from elsewhere, or do part of their
attention past the interface. Two short prompts of random tokens show each of that: one is computed whole and
then goes on by a token, the other finds its first block cached and is computed in company.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from radixcache.cache.lease import BlockCopy
from radixcache.engine.attention import ATTENTION_NAME, BIDIRECTIONAL
from radixcache.engine.backends import Backend, LayerOptions, make_backend
from radixcache.engine.step import SequenceRows, StepBatch
from radixcache.errors import ModelError
from radixcache.kv.layout import KVLayout
from radixcache.kv.pool import PagedPool
from radixcache.models.loaded import LoadedModel
from radixcache.models.quiet import first_line
from radixcache.numerics.blas import request_reproducible_blas

__all__ = ["Trial", "check_model", "try_model"]

_TOKENS = 24  # of each prompt
_BLOCK = 16
_COMMON = 18  # leading tokens that both prompts have: the first block, and some more
_KEPT = 11  # rows of the first prompt whose logits are asked for
_COLUMNS = 4096  # of the logits, evenly spaced, that are compared
_ATTEMPTS = 5

# How far logits may be off, as a part of their spread.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.15, torch.bfloat16: 0.3}
_CAUSAL = 1 / 3  # of it, for rows of the same shape


Forward = Callable[[Sequence[SequenceRows], Backend], Tensor]


class Trial(NamedTuple):
    """Two prompts and what the model itself makes of them.

    Attributes:
        tokens: int64 `[2, n]`, the same in the first `common` places.
        common: see there.
        logits: `[2, n, columns]` in float32, some columns of the vocabulary.
        columns: int64, which.
    """

    tokens: Tensor
    common: int
    logits: Tensor
    columns: Tensor


@torch.inference_mode()
def try_model(loaded: LoadedModel, attempt: int = 0) -> Trial:
    """Let the model compute two prompts by its own attention.

    Raises:
        ModelError: it cannot; names the model and the reason.
    """
    request_reproducible_blas()
    if loaded.dtype not in _TOLERANCE:
        raise _refused(loaded, f"is in {loaded.dtype}; float32, bfloat16 and float16 are served")
    tokens, common = _prompts(loaded, attempt)
    try:
        with _own_attention(loaded.model), _evaluating(loaded.model):
            logits = loaded.model(input_ids=tokens, use_cache=False).logits
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise _refused(loaded, f"cannot compute token ids alone: {first_line(error)}") from error
    width = logits.shape[-1]
    columns = torch.arange(0, width, -(-width // _COLUMNS), device=logits.device)
    return Trial(tokens, common, logits[..., columns].float(), columns)


def check_model(loaded: LoadedModel, forward: Forward, trial: Trial) -> None:
    """Refuse a model whose answers in the engine would not be its own.

    Args:
        loaded: the model.
        forward: computes a step as the engine will, but on the pool of the backend that it is given.
        trial: of `try_model`, made before anything in the model was changed.

    Raises:
        ModelError: the model cannot be served; names it and the reason, in one line.
    """
    tolerance = _TOLERANCE[loaded.dtype]
    least: list[Tensor] = []
    for attempt in range(_ATTEMPTS):
        off = _off_in(loaded, forward, trial if attempt == 0 else try_model(loaded, attempt))
        # Where two experts are as good as equal to a router, rounding decides, and a row is off by far more
        # than rounding; so a row is wrong only if it is on all tokens.
        least = list(map(torch.minimum, least, off)) if least else off
        bidirectional, whole, pieces = (float(rows.max()) for rows in least)
        if bidirectional > tolerance * _CAUSAL:
            reason = BIDIRECTIONAL
        elif whole > tolerance:
            reason = f"gives other logits in the engine than in transformers ({whole:.1g} of their spread)"
        elif pieces > tolerance:
            reason = f"gives other logits where a prefix is cached ({pieces:.1g} of their spread)"
        else:
            return
    raise _refused(loaded, reason)


def _off_in(loaded: LoadedModel, forward: Forward, trial: Trial) -> list[Tensor]:
    """How far rows are off: the common ones of both prompts, and each prompt's last ones in the engine."""
    whole, pieces = _run(loaded, forward, trial)
    first, second = trial.logits
    return [
        _off(first[: trial.common], second[: trial.common]),
        _off(whole, first[len(first) - len(whole) :]),
        _off(pieces, second[len(second) - len(pieces) :]),
    ]


@torch.inference_mode()
def _run(loaded: LoadedModel, forward: Forward, trial: Trial) -> tuple[Tensor, Tensor]:
    """Logits of the last rows of both prompts, `[rows, columns]`, through a small pool."""
    config, device = loaded.model.config, loaded.device
    pool = PagedPool(KVLayout.of(config, _BLOCK, loaded.dtype), 6, device)
    watch = _Watch(make_backend(pool))
    first, second = trial.tokens.tolist()
    n = len(first)
    cached = _BLOCK if trial.common > _BLOCK else 0
    table = [0, 4, 5] if cached else [3, 4, 5]
    kept = min(_KEPT, n - 1)

    def step(*sequences: SequenceRows) -> Tensor:
        watch.expect()
        logits = forward(sequences, watch)
        watch.verify(pool.layout.num_layers)
        return logits[:, trial.columns].clone()

    try:
        whole = step(SequenceRows(first[:-1], 0, [0, 1, 2], kept))
        both = step(
            SequenceRows(first[-1:], n - 1, [0, 1, 2], 1),
            SequenceRows(second[cached:], cached, table, n - cached),
        )
    except torch.OutOfMemoryError:
        raise
    except ModelError as error:
        raise _refused(loaded, str(error)) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise _refused(loaded, f"fails in the engine ({reason})") from error
    return torch.cat([whole, both[:1]]), both[1:]


class _Watch(Backend):
    """A backend that notes which layers attend and what they store."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner.pool)
        self._inner = inner
        self._calls: Counter[int] = Counter()

    def expect(self) -> None:
        """A pass begins."""
        self._calls.clear()

    def verify(self, layers: int) -> None:
        """The pass is over: each of the layers has attended once.

        Raises:
            ModelError: one has not, or has more often.
        """
        often = sorted(layer for layer, calls in self._calls.items() if calls > 1)
        if often:
            raise ModelError(f"attends {self._calls[often[0]]} times a pass in layer {often[0]}")
        absent = [layer for layer in range(layers) if layer not in self._calls]
        if absent:
            raise ModelError(f"computes attention of {len(absent)} of {layers} layers past the interface")

    def renewed(self, blocks: Iterable[int]) -> None:
        self._inner.renewed(blocks)

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        self._inner.copy(copies)

    def begin(self, batch: StepBatch) -> None:
        self._inner.begin(batch)

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        layout = self.pool.layout
        self._calls[layer] += 1
        if not 0 <= layer < layout.num_layers:
            raise ModelError(f"has a layer {layer}, but its configuration says {layout.num_layers} layers")
        if key.shape != value.shape:
            raise ModelError(
                f"has keys of {_shape(key)} and values of {_shape(value)} in layer {layer}; "
                "keys and values of one shape are needed"
            )
        group = layout.group_of(layer)
        if key.shape[1:] != (group.num_kv_heads, group.head_dim):
            raise ModelError(
                f"has keys of {_shape(key)} in layer {layer}, but its configuration says "
                f"{group.num_kv_heads} heads x {group.head_dim}"
            )
        self._inner.write(layer, key, value)

    def attend(self, layer: int, query: Tensor, options: LayerOptions) -> Tensor:
        stated = self.pool.layout.group_of(layer).window
        if stated is not None and (options.window is None or options.window > stated):
            reach = "all tokens" if options.window is None else f"{options.window} tokens"
            raise ModelError(
                f"attends to {reach} in layer {layer}, but its configuration says a window of {stated}"
            )
        return self._inner.attend(layer, query, options)


def _shape(rows: Tensor) -> str:
    return f"{rows.shape[1]} heads x {rows.shape[2]}"


def _off(ours: Tensor, theirs: Tensor) -> Tensor:
    """How far each row of logits `[rows, columns]` is off, as a part of that row's spread.

    Rows without a finite number tell nothing, and neither do columns that a model masks.
    """
    if ours.shape != theirs.shape:
        return torch.full((1,), torch.inf)
    numbers = theirs.masked_fill(~theirs.isfinite(), torch.nan)
    distance = (numbers - numbers.nanmedian(-1, keepdim=True).values).abs()
    spread = distance.nanmedian(-1).values.clamp_min(torch.finfo(torch.float32).tiny)
    told = distance <= 1e3 * spread.unsqueeze(-1)
    wrong = (ours - theirs).square().masked_fill(~told, 0.0).sum(-1) / told.sum(-1).clamp_min(1)
    return torch.where(told.any(-1), wrong.sqrt() / spread, 0.0)


def _prompts(loaded: LoadedModel, attempt: int) -> tuple[Tensor, int]:
    """Two rows of random tokens of which none has a meaning of its own, and how many they share."""
    n = min(_TOKENS, loaded.max_context)
    if n < 2:
        raise _refused(loaded, f"holds {n} token; 2 are needed to generate anything")
    vocabulary = int(loaded.model.config.get_text_config(decoder=True).vocab_size)
    special = _special_ids(loaded.model.config) | set(loaded.eos_token_ids)
    plain = torch.tensor([token for token in range(vocabulary) if token not in special] or [0])
    generator = torch.Generator().manual_seed(attempt)
    tokens = plain[torch.randint(len(plain), (2, n), generator=generator)]
    common = min(_COMMON, n - 1)
    tokens[1, :common] = tokens[0, :common]
    return tokens.to(loaded.device), common


def _special_ids(config: Any) -> set[int]:
    """Every id that a configuration gives a name: padding, ends, places of images."""
    found: set[int] = set()
    for part in (config, config.get_text_config(decoder=True)):
        for name, value in vars(part).items():
            if name.endswith(("_token_id", "_token_index")):
                ids = value if isinstance(value, list) else [value]
                found |= {index for index in ids if isinstance(index, int)}
    return found


@contextmanager
def _own_attention(model: Any) -> Iterator[None]:
    """The model with an attention of transformers, if an engine's is set."""
    parts = (model.config, model.config.get_text_config(decoder=True))
    if all(part._attn_implementation != ATTENTION_NAME for part in parts):
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(ATTENTION_NAME)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model without dropout, whatever mode its owner left it in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _refused(loaded: LoadedModel, reason: str) -> ModelError:
    return ModelError(f"{loaded.name}: {loaded.model.config.model_type} {reason}")
