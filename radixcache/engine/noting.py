"""What an executor sampled and scored becomes part of the requests."""

from __future__ import annotations

from time import perf_counter
from typing import TypeVar

from radixcache.engine.executor import StepOutput
from radixcache.engine.outbox import Outbox
from radixcache.engine.planning import PlannedChunk
from radixcache.engine.request import Sequence
from radixcache.engine.sampling import SampledToken
from radixcache.models import LoadedModel

T = TypeVar("T")


class Noting:
    """Takes the tokens and logprobs of steps in, and decides which sequences end with them.

    Attributes:
        num_tokens: sampled tokens that were taken in.
    """

    def __init__(self, model: LoadedModel, outbox: Outbox) -> None:
        """Tokens taken in are due in `outbox`; other completions of a request are made for `model`."""
        self.num_tokens = 0
        self._model = model
        self._outbox = outbox

    def note(self, part: PlannedChunk, output: StepOutput) -> list[Sequence]:
        """Take in what came of a chunk.

        Args:
            part: the chunk.
            output: of its step.

        Returns:
            The chunk's sequence, if it was sampled for, and the completions that start with it.

        Raises:
            Exception: the error that stands in the output for what could not be had, or one of making text;
                the request may have taken in a part.
        """
        chunk, first, num_draws, score = part
        sequence = chunk.sequence
        if score is not None:
            sequence.request.note_prompt_logprobs(_unless_error(output.scores[score]))
        family: list[Sequence] = []
        for tokens in output.tokens[first : first + num_draws]:
            family.append(sequence.request.new_sequence(self._model) if family else sequence)
            self._note_tokens(family[-1], _unless_error(tokens))
        return family

    def _note_tokens(self, sequence: Sequence, tokens: list[SampledToken]) -> None:
        """Take tokens up to the one that ends the sequence."""
        request, output_ids = sequence.request, sequence.output_ids
        params = request.params
        if request.first_token_at is None:
            request.first_token_at = perf_counter()
        for token, logprob in tokens:
            self.num_tokens += 1
            output_ids.append(token)
            if logprob is not None:
                sequence.logprobs.append(logprob)
            text = None
            if token in sequence.stop_ids and len(output_ids) > params.min_tokens:
                sequence.finish_reason, text = "stop", ""
            elif params.stop and sequence.text is not None:
                text = sequence.text.push(token)
                if sequence.text.stopped:
                    sequence.finish_reason = "stop"
            if sequence.finish_reason is None and len(output_ids) >= params.max_tokens:
                sequence.finish_reason = "length"
            self._outbox.put(sequence, token, logprob, text, sequence.finish_reason)
            if sequence.finish_reason is not None:
                return


def _unless_error(found: list[T] | Exception) -> list[T]:
    if isinstance(found, Exception):
        raise found
    return found
