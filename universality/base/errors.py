"""Exceptions of the package: every message is one sentence a user can act on.

A message names the thing, says what was expected and what came, and gives the remedy. The command line
prints the message and exits with a status other than 0; it never shows a traceback for these.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UniversalityError(Exception):
    """Base of every error that a user's input can cause."""


class CardError(UniversalityError):
    """A model card is missing, malformed, or contradicts the network it describes."""


class WeightsError(UniversalityError):
    """Weights are missing, have the wrong shapes, or differ from what the card states."""


class TapError(UniversalityError):
    """A tap names no module, never fires, or fires in a way that its card does not declare."""


class EarlierTapError(TapError):
    """A tap fires before the one whose edits it is to show."""


class StimulusError(UniversalityError):
    """A stimulus set is empty, unknown, or its source images are not what the manifest states."""


class MeasureError(UniversalityError):
    """A measure is unknown or was given arrays that it cannot compare."""


class StoreError(UniversalityError):
    """Stored activations are incomplete, damaged, or of another format."""


class DeviceError(UniversalityError):
    """A device is asked for that is not there, is too small, or cannot compute repeatably."""


class JobError(UniversalityError):
    """A job file is malformed or asks for something that does not exist."""


class RunError(UniversalityError):
    """A run directory is missing, incomplete, damaged, or belongs to another job."""


class WorkersError(RunError):
    """Workers lack the package, or compute with another version of it or of a library than this process."""


class ClaimError(UniversalityError):
    """A claim of the ledger is malformed, or asks of tables what they do not have."""


class FigureError(UniversalityError):
    """A figure cannot be drawn of the tables that it was given."""


class ServiceError(UniversalityError):
    """A service cannot be started or reached, or refuses a request."""


class MissingError(ServiceError):
    """A service has no job, run, table, figure or unit of this name."""


class TooMuchError(ServiceError):
    """A request, a job or an upload takes more than the service allows."""


class BusyError(ServiceError):
    """A service has too much to do to answer in time."""


class AwayError(UniversalityError):
    """Something outside a job is away for now, so that the same job may succeed later."""


class RunInUseError(RunError, AwayError):
    """A run directory is in use by another run."""


class SchedulerAwayError(JobError, AwayError):
    """No Dask scheduler answers, or it has no worker."""


class SchedulerLostError(RunError, AwayError):
    """The Dask scheduler, or all of its workers, went away while a job ran."""


class TasksFailedError(RunError):
    """Some tasks of a job failed; what the others made is kept."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest option, or a list of all where nothing is near.

    Examples
    --------
    >>> did_you_mean("cka_linaer_debiased", ["cka_linear_debiased", "svcca_variance99"])
    "; did you mean 'cka_linear_debiased'?"
    >>> did_you_mean("zzz", ["alpha", "beta"])
    '; choose one of: alpha, beta'
    """
    choices = sorted(options)
    near = get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; choose one of: {', '.join(choices)}" if choices else "; there is none to choose from"
