"""The errors a user sees: what is wrong, where, and what to do about it.

Every kind has its own process exit code, so that a script can tell a wrong request from a bad file.
"""

from __future__ import annotations


class HypoxiaError(Exception):
    """An error with a message for a person and a hint on the way out.

    Parameters
    ----------
    message : str
        What is wrong and where (file, tag, ROI, value), in one line.
    hint : str
        What the user can do about it, in one line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class RequestError(HypoxiaError):
    """The request cannot be carried out as written: unknown word, missing ROI, wrong value."""

    exit_code = 2


class InputError(HypoxiaError):
    """A file, tag or series is missing, unreadable or contradicts another."""

    exit_code = 3


class GeometryError(HypoxiaError):
    """Two images do not share the frame of reference or grid that the step needs."""

    exit_code = 4


class LimitError(HypoxiaError):
    """A clinical limit is exceeded: dose ceiling, boost volume, empty target."""

    exit_code = 5


class OutputError(HypoxiaError):
    """The result cannot be written: existing output, unwritable folder, full disk."""

    exit_code = 6


class ProofError(HypoxiaError):
    """The exported set, read back, differs from what was shown."""

    exit_code = 7


class NetworkError(HypoxiaError):
    """A DICOM peer refused, vanished or answered with a failure."""

    exit_code = 8


class MissingPackageError(HypoxiaError):
    """An optional package is needed and not installed."""

    exit_code = 9
