"""Sampling: from logits to token ids, for a batch in which every sequence has its own parameters.

Lowest first: `draws` (random numbers by seed, index and position), `penalties`, `masks` and `state` (what
one sequence asks for), `edits` (changes to logits), `weights` (probabilities as whole numbers), `truncation`
(top-k, top-p and min-p in torch), `row` (the same in numpy, for one row), `choice` (the outcome), `device`
and `host` (rows on an accelerator, on a CPU) and `batch`, the way in.
"""

from radixcache.engine.sampling.batch import SampledToken, prompt_logprobs, sample
from radixcache.engine.sampling.state import Sampler, stop_ids

__all__ = ["SampledToken", "Sampler", "prompt_logprobs", "sample", "stop_ids"]
