"""Whether the Hugging Face hub can be asked."""

from __future__ import annotations

from huggingface_hub import constants, get_session

NO_ANSWER = "not a local path, not in the Hub's cache, and the Hub is unreachable"
"""Why a model that was asked for by name is not found while `hub_answers` says no."""

_TIMEOUT = 5.0  # seconds


def hub_answers() -> bool:
    """One request to the hub, with the proxies and endpoint that its client uses.

    Without it an unreachable hub costs half a minute of retries for every file, even of a cached model.
    """
    if constants.is_offline_mode():
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT)
    except Exception:  # of whichever HTTP library the client uses: unreachable in any case
        return False
    return True
