"""What a user may get wrong, as exceptions that say it in one sentence."""

from __future__ import annotations


class MotesError(Exception):
    """Bad input. The command line prints it as one line and exits with code 2.

    Args:
        message: what was found, where, and what was expected, in one sentence.
        hint: what to do about it, for instance the nearest valid name.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ImageError(MotesError):
    """An image that cannot be read or written."""


class DataError(MotesError):
    """A data set, split or annotation that is missing or inconsistent."""


class CardError(MotesError):
    """A card that is missing, malformed or does not fit the network."""


class CheckpointError(MotesError):
    """A weight file that is unreadable, unsafe, or belongs to another network."""


class InterruptedRun(MotesError):  # noqa: N818 - not an error of anybody's
    """Ctrl-C in a command that can say how to go on; exit code 130."""


class MissingExtraError(MotesError):
    """A command of the lab half, called where only the field half is installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed", f"pip install 'motes[{extra}]'")
