"""What one rendering of a chat template may cost: steps, characters made, and processor time.

A template is a program of the model's author. Python's operators, methods and filters run to their end once
they are called, so what an operation will make is estimated before it runs, and charged when it has run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from threading import local
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any

from radixcache.errors import RadixCacheError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Meter",
    "TemplateLimitError",
    "check_call",
    "check_filter",
    "check_format",
    "check_operator",
    "meter",
    "metered",
]

_STEPS, _STEPS_A_CHARACTER = 1_000_000, 20
_CHARACTERS, _CHARACTERS_A_CHARACTER = 1 << 26, 200
_SECONDS, _SECONDS_A_CHARACTER = 5.0, 1e-5
_LITERAL = 1 << 22  # of a list, tuple or dict, written out with all that is in it
_BITS = 1 << 16
_MOST_ARGUMENT = 1_000_000
_MUCH = 1 << 16  # characters after which the time is looked at
_ITEM = 8  # an item of a list weighs as much as this many characters
_NUMBER = re.compile(r"\d+")
_WIDTH_FROM_ARGUMENT = re.compile(r"\*|\{[^{}]*\{")


class TemplateLimitError(RadixCacheError):
    """A chat template asked for more steps, text or time than a rendering may take."""


class Meter:
    """What is left of one rendering's budget.

    The budget grows with what is rendered, so that only the template's own extravagance exhausts it.

    Args:
        given: what the template is given to render.

    Attributes:
        steps: blocks of the template (bodies of loops, branches, macros) that may still be run.
        characters: characters that may still be made; an item of a list counts as eight.
    """

    __slots__ = ("_deadline", "characters", "steps")

    def __init__(self, given: Any = None) -> None:
        size = _size(given, 1 << 62)
        self.steps = _STEPS + _STEPS_A_CHARACTER * size
        self.characters = _CHARACTERS + _CHARACTERS_A_CHARACTER * size
        self._deadline = time.thread_time() + _SECONDS + _SECONDS_A_CHARACTER * size

    def tick(self, characters: int) -> None:
        """Count the run of a block that writes `characters` of the template's own text."""
        self.steps -= 1
        self.characters -= characters
        if self.characters < 0:
            raise _too_much_text()
        if self.steps < 0:
            raise TemplateLimitError("it runs more steps than a conversation of this size may take")
        if not self.steps & 0x3F:
            self._check_time()

    def reserve(self, characters: int) -> None:
        """Refuse what would make so much text, before it does."""
        if characters > self.characters:
            raise _too_much_text()

    def charge(self, characters: int) -> None:
        """Count text that is made."""
        self.reserve(characters)
        self.characters -= characters
        if characters > _MUCH:
            self._check_time()

    def made(self, value: Any) -> Any:
        """Count a value that an operation has made, and return it."""
        if isinstance(value, str | bytes):
            self.charge(len(value))
        elif isinstance(value, list | tuple | dict):
            self.charge(_ITEM * len(value))
        return value

    def written(self, value: Any) -> Any:
        """Count a value that is about to be written as text, and return it."""
        self.charge(len(value) if isinstance(value, str) else _size(value, self.characters))
        return value

    def literal(self, value: Any) -> Any:
        """Count a list, tuple or dict that was put together, and return it.

        Containers that hold one another many times over are small in memory and endless when written or
        compared, so their full size is limited where they are made.
        """
        _size(value, min(_LITERAL + self.characters // 8, self.characters))
        return self.made(value)

    def size(self, value: Any) -> int:
        """Characters that a value takes when it is written; TemplateLimitError if that is too much."""
        return _size(value, self.characters)

    def _check_time(self) -> None:
        if time.thread_time() > self._deadline:
            raise TemplateLimitError("it runs longer than a conversation of this size may take")


class _Current(local):
    meter: Meter | None = None


_current = _Current()


def meter() -> Meter:
    """The meter of the rendering that this thread is in."""
    assert _current.meter is not None
    return _current.meter


@contextmanager
def metered(given: Any) -> Iterator[None]:
    """Limit what templates may do inside, by the size of what is `given` to them."""
    before = _current.meter
    _current.meter = Meter(given)
    try:
        yield
    finally:
        _current.meter = before


def check_operator(operator: str, left: Any, right: Any) -> None:
    """Refuse `left operator right` (`+`, `*`, `**` or `%`) if it makes too much."""
    if operator == "+":
        if isinstance(left, str | bytes | list | tuple) and isinstance(right, str | bytes | list | tuple):
            meter().charge(_weight(left) + _weight(right))
    elif operator == "%":
        if isinstance(left, str | bytes):
            _check_format(left, right if isinstance(right, tuple) else (right,), left.count(_sign(left, "%")))
    elif isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        if (bits * right if operator == "**" else bits + right.bit_length()) > _BITS:
            raise TemplateLimitError(f"it computes an integer of more than {_BITS:,} bits")
    elif operator == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, str | bytes | list | tuple) and isinstance(times, int):
                meter().charge(_weight(sequence) * max(0, times))


def check_call(function: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """Refuse a call that makes too much; returns the arguments to call it with."""
    if named or any(isinstance(argument, int) for argument in arguments):
        _check_integers(arguments, named)
    text = getattr(function, "__self__", None)
    if isinstance(text, str | bytes) and isinstance(function, BuiltinMethodType):
        name, values = function.__name__, (*arguments, *named.values())
        if name == "join" and values:
            items = values[0] if isinstance(values[0], Collection) else list(values[0])
            _check_join(text, items)
            return (items,)
        if name == "replace" and len(values) > 1:
            _check_replace(text, values[0], values[1])
        elif name == "expandtabs":
            meter().reserve((1 + text.count(_sign(text, "\t"))) * max([8, *_integers(values)]))
        elif name == "translate":
            raise TemplateLimitError("it calls translate, which chat templates may not")
        else:
            meter().reserve(len(text) + sum(_integers(values)))
    return arguments


def check_format(text: str, values: Collection[Any]) -> None:
    """Refuse `text.format(...)` if it makes too much."""
    _check_format(text, values, text.count("{"))


def check_filter(name: str, value: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Refuse a filter that makes too much; returns the value to apply it to."""
    if arguments or named:
        _check_integers(arguments, named)
    check = _FILTERS.get(name)
    return value if check is None else check(value, (*arguments, *named.values()))


def _joined(value: Any, arguments: tuple[Any, ...]) -> Any:
    items = value if isinstance(value, Collection) else list(value)
    _check_join(str(arguments[0]) if arguments else "", items)
    return items


def _replaced(value: Any, arguments: tuple[Any, ...]) -> Any:
    if len(arguments) > 1:
        _check_replace(str(value), str(arguments[0]), str(arguments[1]))
    return value


def _formatted(value: Any, arguments: tuple[Any, ...]) -> Any:
    _check_format(str(value), arguments, str(value).count("%"))
    return value


def _indented(value: Any, arguments: tuple[Any, ...]) -> Any:
    width = max([4, *_lengths(arguments)])
    meter().reserve(len(str(value)) + (1 + str(value).count("\n")) * width)
    return value


def _wrapped(value: Any, arguments: tuple[Any, ...]) -> Any:
    meter().reserve(len(str(value)) * (1 + max([1, *(len(a) for a in arguments if isinstance(a, str))])))
    return value


def _as_json(value: Any, arguments: tuple[Any, ...]) -> Any:
    meter().reserve(meter().size(value) * max([1, *_lengths(arguments)]))
    return value


def _as_text(value: Any, _: tuple[Any, ...]) -> Any:
    meter().size(value)
    return value


def _summed(value: Any, _: tuple[Any, ...]) -> Any:
    items = value if isinstance(value, Collection) else list(value)
    meter().reserve(sum(_weight(item) for item in items if isinstance(item, list | tuple)))
    return items


def _rounded(value: Any, arguments: tuple[Any, ...]) -> Any:
    if any(number > 100 for number in _integers(arguments)):
        raise TemplateLimitError("it rounds to more than 100 digits")
    return value


_FILTERS: dict[str, Callable[[Any, tuple[Any, ...]], Any]] = {
    "join": _joined,
    "replace": _replaced,
    "format": _formatted,
    "indent": _indented,
    "wordwrap": _wrapped,
    "tojson": _as_json,
    "string": _as_text,
    "sum": _summed,
    "round": _rounded,
}


def _check_join(separator: str | bytes, items: Collection[Any]) -> None:
    size = meter().size
    meter().reserve(len(separator) * len(items) + sum(size(item) for item in items))


def _check_replace(text: Any, old: Any, new: Any) -> None:
    if isinstance(old, str | bytes) and isinstance(new, str | bytes):
        times = text.count(old) if old else len(text) + 1
        meter().reserve(len(text) + times * len(new))


def _check_format(text: str | bytes, values: Collection[Any], fields: int) -> None:
    plain = text if isinstance(text, str) else text.decode("latin-1")
    widths = sum(int(digits[:18]) for digits in _NUMBER.findall(plain))
    most = max((meter().size(value) for value in values), default=0)
    if _WIDTH_FROM_ARGUMENT.search(plain):
        most = max([most, *_integers(values)])
    meter().reserve(len(text) + widths + fields * most)


def _check_integers(arguments: Collection[Any], named: Mapping[str, Any]) -> None:
    for number in _integers((*arguments, *named.values())):
        if number > _MOST_ARGUMENT:
            raise TemplateLimitError(f"it asks for {number:.3g} of something: at most {_MOST_ARGUMENT:,}")


def _integers(values: Collection[Any]) -> list[int]:
    return [abs(value) for value in values if isinstance(value, int)]


def _lengths(values: Collection[Any]) -> list[int]:
    return [*_integers(values), *(len(value) for value in values if isinstance(value, str))]


def _sign(text: Any, sign: str) -> Any:
    """A sign as text or as bytes, as `text` is."""
    return sign if isinstance(text, str) else sign.encode()


def _weight(sequence: Any) -> int:
    return len(sequence) if isinstance(sequence, str | bytes) else _ITEM * len(sequence)


def _size(value: Any, limit: int) -> int:
    """Characters of a value written as text; what lies deep counts for its indentation, too.

    Raises:
        TemplateLimitError: more than `limit`. No more than that is looked at.
    """
    if isinstance(value, str | bytes):
        total = len(value)
        if total > limit:
            raise _too_much_text()
        return total
    total = 0
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str | bytes):
            total += depth + len(item)
        elif isinstance(item, Collection) and not isinstance(item, range):
            total += depth * (1 + len(item))
            if total <= limit:
                parts = (*item.keys(), *item.values()) if isinstance(item, Mapping) else item
                waiting += [(part, depth + 1) for part in parts]
        else:
            total += depth + (item.bit_length() // 3 if isinstance(item, int) else 8)
        if total > limit:
            raise _too_much_text()
    return total


def _too_much_text() -> TemplateLimitError:
    return TemplateLimitError("it makes more text than a conversation of this size may take")
