"""What can go wrong, in the words a user needs."""

from collections.abc import Iterator
from contextlib import contextmanager


class AirsimError(Exception):
    """Base of every error that airsim raises on purpose; `exit_code` is what the command line returns.

    `fields` are those of a scenario that are to blame, where there are any: see `blaming`.
    """

    exit_code = 2
    fields: tuple[str, ...] = ()


class ScenarioError(AirsimError):
    """A scenario file, an override or a combination of values cannot be used."""


class DataError(AirsimError):
    """A data set or a base model is missing, damaged or too small for what was asked."""


class ResultsError(AirsimError):
    """A results folder cannot be read, or holds something else than what is about to be written."""


class UntrainedError(AirsimError, ValueError):
    """Devices have learned nothing that a method could weigh or compare; there is no next model."""

    exit_code = 3


class DivergenceError(AirsimError):
    """Training left the finite numbers; there is no accuracy to report."""

    exit_code = 3


@contextmanager
def blaming(*fields: str) -> Iterator[None]:
    """Errors from within are to blame on these dotted fields of the scenario, unless on others already.

    The first one is shown, or whichever was written last.
    """
    try:
        yield
    except AirsimError as error:
        error.fields = error.fields or fields
        raise
