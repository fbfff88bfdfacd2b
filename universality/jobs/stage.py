"""A stage of a job, and what stages ask of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from universality.activations.dictionaries.spec import LEARNT
from universality.base.schema import Table
from universality.jobs.tasks import Inputs, Tables, Task
from universality.runs.drawn import Per
from universality.runs.job import Job

NUMBERS = ("numpy", "pandas", "scipy")
"""The packages that decide the numbers of nearly every stage."""


@dataclass(frozen=True)
class Asked:
    """What a job may have, and some stages ask for: whether a job has it, and what is said of a stage that is asked for without it."""

    has: Callable[[Job], bool]
    sentence: str


ASKED: dict[str, Asked] = {
    "families": Asked(
        lambda job: bool(job.comparison.families),
        "is about families of detectors, and the job has none (comparison.families = []); name some there",
    ),
    "copies": Asked(
        lambda job: bool(job.nulls.noisy_copies),
        "is about noisy copies of the networks, and the job has none (nulls.noisy_copies = []); ask for some there, such as [0.84]",
    ),
    "edits": Asked(
        lambda job: job.edits,
        'is about interventions, and no model of the job names taps whose units are edited; name some there, such as edited = ["features.13"]',
    ),
    "dictionaries": Asked(
        lambda job: job.basis in LEARNT,
        "is about dictionaries, and the job's basis is none; set basis = 'sae', 'nmf' or 'universal_sae'",
    ),
    "units": Asked(
        lambda job: job.in_units,
        "reads and edits single channels, and the job sees its layers in directions; drop basis and dictionary.directions",
    ),
}
"""By name, what stages ask of a job."""


def lacks(job: Job) -> list[str]:
    """Return the names, in `ASKED`, of what a job has not."""
    return [name for name, asked in ASKED.items() if not asked.has(job)]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    name : as ``--only``, ``--without`` and ``[stages]`` take it
    makes : what it makes, in words
    tables : of the run's directory; a job has those about one family alone for its own families only (`tables_of`)
    version : raised when its numbers change for equal inputs
    work : a count that its time is proportional to, for estimates
    needs : names of the stages whose tables it takes
    waits : whether its tasks take them too, not only `finished`
    tasks : its work in pieces, each under a key; none for a stage that is made of tables alone
    count : how many `tasks` yields
    finished : from the rows of its tasks, one after another, and the tables of the stages before, to `tables`
    packages : names, in `provenance.PACKAGES`, of those that decide its numbers
    figures : kinds of figures that a run draws of it (names in `figures.FIGURES`), and of what there is one each
    asks : names, in `ASKED`, of what a job must have for it; a job that lacks one has no such stage. What does not ask for families
        is all that a job without any has, and takes layers without a scene of their own, which the others leave out (`Inputs.judged`)
    """

    name: str
    makes: str
    tables: tuple[Table, ...]
    version: int
    work: Callable[[Inputs], float]
    tasks: Callable[[Inputs], Iterator[Task]] = lambda inputs: iter(())
    count: Callable[[Inputs], int] = lambda inputs: 0
    finished: Callable[[Inputs, Tables, Tables], Tables] = lambda inputs, rows, before: rows
    needs: tuple[str, ...] = ()
    waits: bool = False
    packages: tuple[str, ...] = NUMBERS
    figures: Mapping[str, Per] = field(default_factory=dict)
    asks: tuple[str, ...] = ("families",)

    @property
    def of_layers(self) -> bool:
        """Whether it is about layers alone, not about families of detectors in them."""
        return "families" not in self.asks

    def tables_of(self, job: Job) -> tuple[Table, ...]:
        """Return the tables that it makes of a job."""
        return tuple(of for of in self.tables if of.family is None or of.family in job.comparison.families)
