"""The engine and the process around it: its end, forks, Ctrl-C, and engines that nobody closes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable

import pytest
import torch

from radixcache import Engine, EngineConfig, EngineForkedError, SamplingParams
from radixcache.models.devices import with_index
from tests import tiny_models
from tests.engine.conftest import MakeEngine

LONG = SamplingParams(max_tokens=1500, ignore_eos=True)
SHORT = SamplingParams(max_tokens=3, ignore_eos=True)
PROMPT = list(range(3, 50))

_PROGRAM = """
import time
from radixcache import Engine, SamplingParams
from tests import tiny_models
engine = Engine(tiny_models.tiny("llama"))
handle = engine.submit(list(range(3, 50)), SamplingParams(max_tokens=1900, ignore_eos=True))
handle.when_done(lambda handle: print(handle.result().finish_reason, flush=True))
while engine.stats().decode_tokens < 5:
    time.sleep(0.01)
print("end", flush=True)
"""


@pytest.mark.parametrize("last", ["", "raise SystemExit(0)", "del engine, handle"])
def test_a_program_may_end_while_a_request_runs(last: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM + last], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["end", "abort"]


def in_a_child(call: Callable[[], object]) -> str:
    """What a forked child gets of `call`; fails if it hangs."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            said = repr(call())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_at_once_and_the_parent_goes_on(make_engine: MakeEngine) -> None:
    engine = make_engine()
    expected = engine.generate(PROMPT, SHORT)[0].token_ids
    ended = engine.submit(PROMPT, SHORT)
    ended.result(timeout=30)
    running = engine.submit(PROMPT[5:], LONG)
    stream = engine.stream(PROMPT[7:], LONG)
    calls: list[Callable[[], object]] = [
        lambda: engine.submit(PROMPT),
        lambda: engine.generate(PROMPT),
        engine.stats,
        engine.reset_cache,
        running.result,
        lambda: list(running),
        lambda: next(stream),
        lambda: running.when_done(print),
    ]
    for call in calls:
        assert in_a_child(call).startswith(f"{EngineForkedError.__name__}: the engine belongs to process")
    # What needs no engine works, and nothing of the parent's is ended.
    assert in_a_child(lambda: ended.result().token_ids) == repr(expected)
    for harmless in (engine.close, running.abort, stream.close):
        assert in_a_child(harmless) == "None"
    assert not running.done
    running.abort()
    stream.close()
    assert running.result(timeout=30).finish_reason == "abort"
    assert engine.generate(PROMPT, SHORT)[0].token_ids == expected


def test_ctrl_c_in_generate_aborts_its_requests(make_engine: MakeEngine) -> None:
    engine = make_engine()

    def interrupt() -> None:
        while engine.stats().decode_tokens < 5:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        engine.generate([PROMPT, PROMPT[5:], PROMPT[9:]], LONG)
    thread.join()
    deadline = time.monotonic() + 30
    while engine.stats().running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.stats().decode_tokens < 1500


def test_engines_that_nobody_closes_are_collected_with_their_threads_and_pools() -> None:
    engines: list[weakref.ref[Engine]] = []
    pools = []
    before = threading.active_count()
    for _ in range(3):
        engine = Engine(tiny_models.tiny("llama"), EngineConfig(cache_tokens=1024))
        engine.generate([PROMPT, PROMPT[3:]], SHORT)
        engines.append(weakref.ref(engine))
        pools.append(engine._loop.executor.runner._pool)
    del engine
    gc.collect()
    assert [engine() for engine in engines] == [None, None, None]
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert all(pool.storages == [] for pool in pools)


def test_an_engine_lives_as_long_as_a_request_that_somebody_waits_for() -> None:
    handle = Engine(tiny_models.tiny("llama")).submit(PROMPT, SamplingParams(max_tokens=40, ignore_eos=True))
    gc.collect()
    assert handle.result(timeout=60).finish_reason == "length"


@pytest.mark.parametrize(("named", "normal"), [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")])
def test_a_device_has_its_index(named: str, normal: str) -> None:
    from dataclasses import replace

    assert str(with_index(torch.device(named))) == normal
    assert str(replace(tiny_models.tiny("llama"), device=torch.device(named)).device) == normal
