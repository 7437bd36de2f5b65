"""A name or path -> model and tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from radixcache.errors import ModelError
from radixcache.models.dtypes import choose_device, choose_dtype
from radixcache.models.hub import hub_answers
from radixcache.models.loaded import LoadedModel
from radixcache.models.locate import locate
from radixcache.models.pretrained import from_pretrained, refuse_missing, why_not_loaded
from radixcache.models.quiet import quiet_transformers
from radixcache.models.tokenizer_files import chat_templates, read_tokenizer_config
from radixcache.models.traits import causal_lm_class, eos_token_ids, fingerprint, max_context
from radixcache.numerics.blas import request_reproducible_blas


def load_model(
    name_or_path: str | PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "auto",
    attn_implementation: str = "eager",
    notify: Callable[[str], None] = lambda _line: None,
) -> LoadedModel:
    """Loads a causal language model for serving.

    Args:
        name_or_path: the embedded model's name (`smollm2-135m`), a model folder, a GGUF file (converted on
            first use), or a name on the Hugging Face hub. Code that comes with a model is never run.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, ...
        dtype: `float32`, `bfloat16`, `float16`, or `auto`: what serves best on the device (`choose_dtype`).
        attn_implementation: the attention function of the model as loaded; an engine sets its own.
        notify: called with one line of text before each step that takes long (download, conversion).

    Raises:
        TypeError: `name_or_path` is neither text nor a path.
        ModelError: the model cannot be found, loaded or served; names the model and the reason in one line.
    """
    if not isinstance(name_or_path, str | PathLike):
        raise TypeError(
            f"name_or_path must be a name or a path, got {type(name_or_path).__name__}; "
            "LoadedModel.of takes a model that is in memory"
        )
    name_or_path = fspath(name_or_path)
    request_reproducible_blas()
    target = choose_device(device)
    source = locate(name_or_path, notify)
    online = not isinstance(source, Path) and hub_answers()
    local: dict[str, Any] = {} if online else {"local_files_only": True}
    try:
        with quiet_transformers():
            config = from_pretrained(AutoConfig, source, **local)
            causal_lm_class(config, name_or_path)
            context = max_context(config, name_or_path)
            chosen = choose_dtype(dtype, target, config)
            model, report = from_pretrained(
                AutoModelForCausalLM,
                source,
                config=config,
                dtype=chosen,
                attn_implementation=attn_implementation,
                device_map=None if target.type == "cpu" else {"": target},
                output_loading_info=True,
                **local,
            )
            tokenizer = _tokenizer(source, name_or_path, local)
    except ModelError:
        raise
    except Exception as error:
        reason = why_not_loaded(error, source, online=online)
        raise ModelError(f"model {name_or_path!r} cannot be loaded: {reason}") from error
    refuse_missing(report, name_or_path)
    model.eval().requires_grad_(False)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        name=name_or_path,
        fingerprint=fingerprint(model, chosen),
        eos_token_ids=eos_token_ids(model, tokenizer),
        max_context=context,
        device=target,
        dtype=chosen,
    )


def _tokenizer(source: Path | str, name: str, local: dict[str, Any]) -> Any | None:
    """The tokenizer; a local folder may hold none, and serves token ids then."""
    if isinstance(source, Path):
        if not any(source.glob("*token*")):
            return None
        read_tokenizer_config(source)
    tokenizer = from_pretrained(AutoTokenizer, source, **local)
    chat_templates(tokenizer.chat_template, name)
    return tokenizer
