"""The error that every check raises, and what errors say."""

__all__ = ["InputError", "said"]


class InputError(ValueError):
    """Input that cannot be scored; the message names what is wrong and what to do."""


def said(error: BaseException) -> str:
    """What an error says, in one line for a status: with its type, unless it is one of ours."""
    message = str(error).strip()
    if isinstance(error, InputError):
        return message
    short = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in message
    advice = " (memory is short: give a smaller memory_limit)" if short else ""
    return f"{type(error).__name__}: {message.partition(chr(10))[0]}".rstrip(": ") + advice
