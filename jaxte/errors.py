"""The error that every check raises, and what errors say."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["InputError", "did_you_mean", "one_line", "said"]


class InputError(ValueError):
    """Input that cannot be scored; the message names what is wrong and what to do."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Those of similar spelling, as a question with a blank after it; "" if there are none."""
    near = get_close_matches(name, list(names), 3)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def one_line(error: BaseException) -> str:
    """All that an error says, in one line: with its type, unless it is one of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def said(error: BaseException) -> str:
    """What an error says, in one line for a status: with its type, unless it is one of ours."""
    message = str(error).strip()
    if isinstance(error, InputError):
        return message
    short = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in message
    advice = " (memory is short: give a smaller memory_limit)" if short else ""
    return f"{type(error).__name__}: {message.partition(chr(10))[0]}".rstrip(": ") + advice
