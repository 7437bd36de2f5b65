"""A chat in the terminal that says after every turn what it did not have to compute.

python examples/terminal_chat.py
python examples/terminal_chat.py --prompt "Why is the sky blue?" --prompt "And at sunset?"
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated

import typer
from rich.console import Console

from radixcache import ChatSession, Engine, PromptTooLongError, RadixCacheError, SamplingParams

HELP = "/new starts over with the same system prompt, /stats shows the cache, /quit leaves"


class TerminalChat:
    """Reads lines, prints answers. Everything said is one `ChatSession` until `/new`."""

    def __init__(self, engine: Engine, console: Console, system: str, params: SamplingParams) -> None:
        self.engine = engine
        self.console = console
        self._system = system
        self._params = params
        self.chat = self._new_chat()

    def run(self, lines: Iterator[str]) -> None:
        """Take turns until `/quit`, the end of the lines, or Ctrl-C outside an answer."""
        for line in lines:
            match line.strip():
                case "":
                    continue
                case "/quit":
                    return
                case "/new":
                    self.chat = self._new_chat()
                    self._note("new conversation")
                case "/stats":
                    self._print_stats()
                case text if text.startswith("/"):
                    self._note(HELP)
                case text:
                    self._turn(text)

    def _new_chat(self) -> ChatSession:
        return self.engine.chat(self._system or None, params=self._params)

    def _turn(self, text: str) -> None:
        """One answer. Ctrl-C ends the answer, not the chat."""
        try:
            # closing() ends the answer at once, wherever Ctrl-C strikes.
            with closing(self.chat.stream(text)) as pieces:
                for piece in pieces:
                    self._write(_printable(piece))
        except PromptTooLongError as error:
            self._note(f"{error}; /new starts over")
            return
        except KeyboardInterrupt:
            self._write(" [stopped]")
        self._write("\n")
        self._print_usage()

    def _print_usage(self) -> None:
        usage = self.chat.last_usage
        if usage is None:
            return
        share = usage.cached_tokens / usage.prompt_tokens
        self._note(
            f"{usage.prompt_tokens} prompt tokens, {usage.cached_tokens} cached ({share:.0%}), "
            f"{usage.completion_tokens} new, first after {usage.ttft * 1000:.0f} ms"
        )

    def _print_stats(self) -> None:
        stats = self.engine.stats()
        cache = stats.cache
        self._note(
            f"{cache.requests} requests, {cache.cached_tokens} of {cache.prompt_tokens} prompt tokens cached "
            f"({cache.hit_rate:.0%}), {cache.cached_tokens_resident} tokens kept, {cache.free_blocks} of "
            f"{cache.num_blocks} blocks free, {cache.evicted_blocks} evicted"
        )
        missed = ", ".join(f"{reason} {tokens}" for reason, tokens in cache.missed_tokens.items() if tokens)
        self._note(f"computed because: {missed or 'nothing was'}")

    def _write(self, text: str) -> None:
        # Past rich, whose buffer an interrupt in the middle of a write would leave filled.
        self.console.file.write(text)
        self.console.file.flush()

    def _note(self, text: str) -> None:
        self.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def typed_lines(console: Console) -> Iterator[str]:
    """What the user types, to the end of input or Ctrl-C at the prompt."""
    while True:
        try:
            yield console.input("[bold]you>[/bold] ")
        except (EOFError, KeyboardInterrupt):
            console.out("")
            return


def given_lines(prompts: list[str], console: Console) -> Iterator[str]:
    """Prompts from the command line, shown as if typed."""
    for prompt in prompts:
        console.out(f"you> {_printable(prompt)}", highlight=False)
        yield prompt


def main(
    model: Annotated[str, typer.Option(help="The embedded model, a folder, a GGUF file or a hub name.")] = (
        "smollm2-135m"
    ),
    system: Annotated[str, typer.Option(help="System prompt; empty for none.")] = (
        "You are a helpful assistant. Answer in one or two short sentences."
    ),
    max_tokens: Annotated[int, typer.Option(min=1, help="The most new tokens of an answer.")] = 256,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Say this instead of asking; may be given several times.")
    ] = None,
) -> None:
    """Chat with a model and see what each turn reused."""
    console = Console()
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # what a terminal cannot encode must not end the chat
    try:
        with Engine.from_pretrained(model) as engine:
            chat = TerminalChat(engine, console, system, SamplingParams(max_tokens=max_tokens))
            if prompt:
                chat.run(given_lines(prompt, console))
            else:
                console.print(HELP, style="dim", highlight=False, soft_wrap=True)
                chat.run(typed_lines(console))
    except RadixCacheError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _printable(text: str) -> str:
    """Without the control characters that a terminal would act on."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


if __name__ == "__main__":
    typer.run(main)
