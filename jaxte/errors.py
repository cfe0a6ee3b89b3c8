"""The error that every check raises, and what errors say."""

__all__ = ["InputError", "said"]


class InputError(ValueError):
    """Input that cannot be scored; the message names what is wrong and what to do."""


def said(error: BaseException) -> str:
    """What an error says, for a status: with its type, unless it is one of ours."""
    if isinstance(error, InputError):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")
