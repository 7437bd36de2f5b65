"""Helicone: `request_body` and `response_body`, with properties of the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from radixcache.logs.bodies import read_body
from radixcache.logs.bodies.parts import as_object
from radixcache.logs.exports.json_fields import unpacked
from radixcache.logs.format import Format, Line, first_of
from radixcache.logs.record import BadLine, LogRequest
from radixcache.logs.requests import response_usage
from radixcache.logs.usage import read_usage

__all__ = ["Helicone"]

_SESSION = "Helicone-Session-Id"


class Helicone(Format):
    """Requests as Helicone exports them."""

    name = "helicone"
    fields = "request_body"
    known = frozenset(
        """
        request_id request_created_at request_body request_path request_user_id request_properties
        properties request_model response_id response_created_at response_status response_body
        response_model model prompt_tokens completion_tokens total_tokens provider target_url
        country_code prompt_id scores feedback_rating cost cost_usd latency delay_ms
        time_to_first_token cache_enabled cache_reference_id llmSchema created_at user_id asset_ids
        asset_urls updated_at storage_location signed_body_url
        """.split()  # noqa: SIM905 - words are easier to read
    )

    def claims(self, record: Mapping[str, Any]) -> bool:
        return isinstance(unpacked(record.get("request_body")), dict)

    def read(self, line: Line) -> Iterator[LogRequest | BadLine]:
        record = line.record
        body = as_object("request_body", unpacked(record["request_body"]))
        response = unpacked(record.get("response_body"))
        properties = unpacked(first_of(("request_properties", "properties"), record))
        yield self.request(
            line,
            read_body(body),
            session=properties.get(_SESSION) if isinstance(properties, dict) else None,
            time=first_of(("request_created_at", "created_at"), record),
            response=response,
            usage=read_usage(response_usage(response) or record),
        )
