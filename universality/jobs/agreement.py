"""Whether workers compute with the package, the source and the libraries of the process that asks them.

They are asked before anything is submitted, and every task compares again where it runs, so that a worker that joins later cannot
put values of other code into a store either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from universality.base.errors import SchedulerLostError, WorkersError
from universality.jobs.workers import single_threaded
from universality.runs import provenance

if TYPE_CHECKING:
    from distributed import Client

NAME = "universality"
_SHOWN = 12
"""Digits of a digest that a sentence shows."""


@cache
def here() -> Mapping[str, str]:
    """Return what this process computes with: the package's version and source, and the libraries that decide numbers."""
    return {
        NAME: provenance.package_version(),
        "its source": provenance.code_digest()[:_SHOWN],
        **provenance.package_versions(),
    }


def run_as(expected: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with one thread, on a worker that computes with what is expected; else raise `WorkersError`."""
    if here() != expected:
        raise WorkersError(_difference(_address(), here(), expected))
    single_threaded()
    return function(*arguments)


def require(client: Client) -> None:
    """Refuse workers that compute with something else than this process, or lack it.

    Raises
    ------
    WorkersError
        For the first worker that differs, with both versions and how many others do.
    SchedulerLostError
        All of them went away while they were asked. One that went away alone is passed over: whoever takes its place is asked by
        each task.
    """

    def asked() -> Any:
        # Travels by value: a worker need not have the package to answer.
        try:
            from universality.jobs import agreement
        except Exception as cause:
            return f"{type(cause).__name__}: {cause}"
        return dict(agreement.here())

    every = client.run(asked, on_error="return")
    answers = {address: answer for address, answer in every.items() if not isinstance(answer, OSError)}
    if every and not answers:
        raise SchedulerLostError(
            f"{len(every)} worker(s) went away while they were asked for their versions ({next(iter(every.values()))}); start workers and run "
            "the job again: what is finished is kept"
        )
    wrong = {address: answer for address, answer in answers.items() if answer != here()}
    if wrong:
        address, answer = next(iter(wrong.items()))
        others = f" ({len(wrong)} of {len(answers)} workers differ)" if len(wrong) > 1 else ""
        raise WorkersError(_difference(address, answer, here()) + others)


def _difference(address: str, answer: Any, expected: Mapping[str, str]) -> str:
    """Return what a worker has and what was expected of it, in one sentence."""
    if not isinstance(answer, Mapping):
        return (
            f"worker '{address}' cannot import {NAME} ({answer}), expected version {expected[NAME]} of it; install it in the "
            "worker's environment"
        )
    names = [name for name in {**expected, **answer} if answer.get(name) != expected.get(name)]
    came, wanted = (", ".join(f"{name} {of.get(name, 'absent')}" for name in names) for of in (answer, expected))
    return f"worker '{address}' computes with {came}, expected {wanted} as here; install the same there, and restart it"


def _address() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return "this process"
