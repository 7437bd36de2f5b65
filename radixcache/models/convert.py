"""A GGUF file -> a model folder that loads in a second or two.

Reading GGUF takes transformers 10-30 s each time, mostly for metadata and dequantisation, so a file is
converted once. The weights are read by transformers (which also undoes the row permutation of `attn_q` and
`attn_k` in llama-architecture files); a byte-level tokenizer is built here, because the stock conversion
does not honour every pre-tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from radixcache.errors import ModelError
from radixcache.models.gguf import read_gguf
from radixcache.models.pretrained import from_pretrained, refuse_missing, why_not_loaded
from radixcache.models.quiet import quiet_transformers
from radixcache.models.tokenizer import byte_level_tokenizer, sentencepiece_tokenizer

FLOAT32_LIMIT = 2_000_000_000
"""Parameters up to which a conversion keeps float32, in which dequantised values are exact; above it the
folder holds bfloat16, half the size."""


def convert_gguf(path: Path, folder: Path) -> None:
    """Writes the model in the GGUF file `path` to `folder`: configuration, safetensors weights, tokenizer.

    Dequantised values are stored in float32 (up to `FLOAT32_LIMIT` parameters), so nothing is lost.

    Raises:
        ModelError: the file is not GGUF, is one shard of many, or its architecture, tensors or tokenizer
            are not supported.
    """
    metadata, parameters = read_gguf(path)
    if metadata.get("split.count", 1) > 1:
        raise ModelError(f"{path}: is one of {metadata['split.count']} shards; merge them first")
    try:
        with quiet_transformers(), _no_progress_bar():
            tokenizer = _tokenizer(path, metadata)
            model = _model(path, parameters)
            _set_generation(model, metadata)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except ModelError:
        raise
    except Exception as error:
        reason = why_not_loaded(error, path, online=False)
        raise ModelError(f"{path}: cannot be converted: {reason}") from error


def _model(path: Path, parameters: int) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    source: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    config = from_pretrained(AutoConfig, path.parent, **source)
    dtype = torch.float32 if parameters <= FLOAT32_LIMIT else torch.bfloat16
    model, report = from_pretrained(
        AutoModelForCausalLM, path.parent, config=config, dtype=dtype, output_loading_info=True, **source
    )
    refuse_missing(report, str(path))
    # The weights are plain tensors by now; the marks of a quantised model would forbid saving them.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    return model


def _set_generation(model: Any, metadata: Mapping[str, Any]) -> None:
    """Chat models end a turn with a token of its own, which some files name beside the end of text."""
    keys = ("eos_token_id", "eot_token_id", "eom_token_id")
    ids = [metadata.get(f"tokenizer.ggml.{key}") for key in keys]
    ends = sorted({int(index) for index in ids if index is not None})
    if ends:
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]


def _tokenizer(path: Path, metadata: Mapping[str, Any]) -> Any:
    kind = metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        return byte_level_tokenizer(metadata, str(path))
    from transformers import AutoTokenizer

    stock = from_pretrained(AutoTokenizer, path.parent, gguf_file=path.name, local_files_only=True)
    plain = kind == "llama" and not str(metadata.get("general.architecture")).startswith("gemma")
    return sentencepiece_tokenizer(stock, metadata) if plain else stock


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """The conversion's bar does not obey transformers' switch for progress bars."""
    import transformers.modeling_gguf_pytorch_utils as conversion

    bar = getattr(conversion, "tqdm", None)
    if bar is None:
        yield
        return
    with mock.patch.object(conversion, "tqdm", partial(bar, disable=True)):
        yield
