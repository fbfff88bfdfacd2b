"""Jobs: what is compared, and how."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from universality.activations.dictionaries.spec import LEARNT, BasisName, DictionarySpec
from universality.activations.spec import ExtractionSpec, NullSpec
from universality.base.errors import JobError, StimulusError, did_you_mean
from universality.base.spec import Int, Spec, digest, unique
from universality.base.toml import parse_toml, validate
from universality.circuits.plan import WeightKind
from universality.features import names
from universality.stimuli import natural
from universality.stimuli.spec import StimuliSpec

MatchMethod = Literal["hungarian", "mutual_nearest"]
MOST_FIGURE_PAIRS = 6


class ModelEntry(Spec):
    """One network of a job and the taps to record (all taps of its card when left out).

    ``NAME:pre`` and ``NAME:post`` are the two sides of the nonlinearity at the card's tap NAME.
    """

    id: str = Field(description="id of a model card, as `universality zoo list` shows it")
    taps: Annotated[tuple[str, ...], AfterValidator(unique)] | None = Field(
        None, min_length=1, description="names of taps of the card; all of them when left out"
    )
    scene_px: dict[str, Annotated[Int, Field(ge=1, le=4096)]] = Field(
        default_factory=dict,
        description="by tap, side of its scenes under the policy same_receptive_field where that is not the receptive field",
    )
    edited: Annotated[tuple[str, ...], AfterValidator(unique)] = Field(
        (),
        description="taps whose units are removed, exchanged between images, and replaced by matched units of other networks; none when left out",
    )

    _later: ClassVar[tuple[str, ...]] = ("edited",)

    @model_validator(mode="after")
    def _scenes_are_of_taps(self) -> ModelEntry:
        for name in self.scene_px:
            if self.taps is not None and name not in self.taps:
                raise ValueError(
                    f"scene_px names '{name}'{did_you_mean(name, self.taps)}, which is no tap of the entry"
                )
        return self


def _each_pair_once(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    unique(tuple(" and ".join(sorted(pair)) for pair in pairs))
    return pairs


def _unique_models(entries: tuple[ModelEntry, ...]) -> tuple[ModelEntry, ...]:
    unique(tuple(entry.id for entry in entries))
    return entries


class ComparisonSpec(Spec):
    """Which measures and matchings to compute."""

    measures: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(unique)] = Field(
        (
            "cka_linear_debiased",
            "cka_linear_biased",
            "svcca_variance99",
            "unit_match_hungarian",
            "unit_match_mutual_nearest",
        ),
        description="measures between pairs of taps, as `universality measures` lists them",
    )
    matching: Annotated[tuple[MatchMethod, ...], Field(min_length=1), AfterValidator(unique)] = Field(
        ("hungarian", "mutual_nearest"),
        description="how units are paired: one to one, or each other's nearest; sentences and figures are about the first",
    )
    families: Annotated[tuple[str, ...], AfterValidator(unique)] = Field(
        names.DEFAULT,
        description=f"{', '.join(names.NAMES[:-1])} or {names.NAMES[-1]}; each brings its stimuli; empty: layers alone are "
        "compared, and units are not",
    )
    permutations: Int = Field(
        199, ge=19, le=100_000, description="permutations of images for p; the least p is 1 / (n + 1)"
    )
    bootstraps: Int = Field(500, ge=100, le=100_000, description="resamples of photographs for the intervals of r")


class InterventionSpec(Spec):
    """How interventions are measured, at the taps that models name as edited."""

    images: Int = Field(432, ge=24, le=100_000, description="images that an edited network is shown")


class CircuitSpec(Spec):
    """How circuits of matched units are read."""

    weights: WeightKind = Field(
        "linear",
        description="products of weights over all paths (linear), or the mean of the gradients at 32 natural images (mean_gradient: minutes a network; for taps "
        "between which linear weights describe no unit, as their fidelity tells)",
    )


class StagesSpec(Spec):
    """Which stages run: all when left out."""

    only: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(unique)] | None = Field(
        None, description="these and the stages that they need, as `universality stages` lists them"
    )
    without: Annotated[tuple[str, ...], AfterValidator(unique)] = Field(
        (), description="all but these and the stages that need them"
    )


class Job(Spec):
    """A comparison job: networks, stimuli, extraction, comparison, nulls."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$", description="names the run's folder, data/runs/NAME by default"
    )
    question: str = Field("", description="what the job is to answer; it heads the report")
    seed: Int = Field(0, ge=0, description="seed of rotations, shuffles and bootstraps")
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1), AfterValidator(_unique_models)]
    stimuli: StimuliSpec = Field(default_factory=StimuliSpec)
    extraction: ExtractionSpec
    comparison: ComparisonSpec = Field(default_factory=ComparisonSpec)
    nulls: NullSpec = Field(default_factory=NullSpec)
    interventions: InterventionSpec = Field(default_factory=InterventionSpec)
    circuits: CircuitSpec = CircuitSpec()
    stages: StagesSpec = Field(default_factory=StagesSpec)
    basis: BasisName = Field(
        "units",
        description="in which every layer is seen: its units, as many random directions (haar), or a dictionary learnt from its natural activations (nmf, sae; "
        "universal_sae: one for the same tap of all models)",
    )
    dictionary: DictionarySpec = Field(DictionarySpec(), description="how many directions, and how they are learnt")
    pairs: Annotated[tuple[tuple[str, str], ...], AfterValidator(_each_pair_once)] | None = Field(
        None,
        description="pairs of models to compare (ids); all when left out, none when empty; one id twice for a network "
        "with itself, where families is empty",
    )
    figure_pairs: Annotated[tuple[tuple[str, str], ...], AfterValidator(_each_pair_once)] | None = Field(
        None, description=f"pairs drawn one by one; the first {MOST_FIGURE_PAIRS} compared pairs when left out"
    )

    _later: ClassVar[tuple[str, ...]] = ("basis", "dictionary", "circuits")

    def digest(self) -> str:
        """Return the SHA-256 of the validated values that decide numbers.

        Which stages run decides which tables there are, and no number in one. Of the CPU, of no further stimulus
        sets, no noisy copies, no interventions and no images of one's own nothing is said, as before there was a choice.
        """
        values = self.plain()
        del values["stages"]
        if not self.stimuli.also:
            del values["stimuli"]["also"]
        if not self.stimuli.natural.folders:
            for name in ("folders", "images"):
                del values["stimuli"]["natural"][name]
        if not self.edits:
            del values["interventions"]
        for name in ("noisy_copies", "copied"):
            if not values["nulls"][name]:
                del values["nulls"][name]
        if self.extraction.device == "cpu":
            del values["extraction"]["device"]
        return digest(values)

    @property
    def edits(self) -> bool:
        """Whether a model names taps whose units are edited."""
        return any(entry.edited for entry in self.models)

    @model_validator(mode="after")
    def _units_are_edited(self) -> Job:
        if self.edits and not self.in_units:
            raise ValueError(
                f"models.edited names taps whose units are edited, and the job sees layers in directions (basis = '{self.basis}'); drop one of the two"
            )
        return self

    @model_validator(mode="after")
    def _dictionary_is_asked_for(self) -> Job:
        if self.basis not in LEARNT:
            default = DictionarySpec(directions=self.dictionary.directions)
            stated = [name for name, value in self.dictionary if value != getattr(default, name)]
            if stated:
                raise ValueError(
                    f"dictionary.{stated[0]} is about dictionaries that are learnt, and basis = '{self.basis}' is none; drop it, or set basis = 'sae'"
                )
        if self.dictionary.shuffled_images and self.basis != "universal_sae":
            raise ValueError(
                f"dictionary.shuffled_images needs basis = 'universal_sae', came '{self.basis}': one network's images have no other order; drop it"
            )
        return self

    @model_validator(mode="after")
    def _named_are_models(self) -> Job:
        known = {entry.id for entry in self.models}
        named = {
            "pairs": itertools.chain.from_iterable(self.pairs or ()),
            "figure_pairs": itertools.chain.from_iterable(self.figure_pairs or ()),
            "nulls.copied": self.nulls.copied,
        }
        for name, models in named.items():
            for model in models:
                if model not in known:
                    raise ValueError(
                        f"{name} names '{model}'{did_you_mean(model, known)}, which is no model of the job"
                    )
        return self

    @model_validator(mode="after")
    def _copies_are_asked_for(self) -> Job:
        if self.nulls.copied and not self.nulls.noisy_copies:
            raise ValueError(
                "nulls.copied names models, and nulls.noisy_copies says of no copy how like its network it is to be; give it, such as [0.84], or drop both"
            )
        return self

    @model_validator(mode="after")
    def _pairs_can_be_compared(self) -> Job:
        if len(self.models) == 1 and self.pairs is None:
            model = self.models[0].id
            raise ValueError(
                f"models names '{model}' alone, expected two or what it is compared with; add a model, or pairs = "
                f'[["{model}", "{model}"]] with comparison.families = [] for its layers with one another, or pairs = []'
            )
        alone = next((a for a, b in self.pairs or () if a == b), None)
        if alone is not None and self.comparison.families:
            raise ValueError(
                f"pairs names '{alone}' twice: a network's layers can be compared with one another, its units would be "
                "matched with themselves; set comparison.families = [], or name another model"
            )
        return self

    @model_validator(mode="after")
    def _stimuli_show_the_families(self) -> Job:
        # Jobs are described without the packages of arrays and tables, which the families need.
        from universality.features.families import FAMILIES

        for name in self.comparison.families:
            if name in FAMILIES:
                FAMILIES[name].refuse(self.stimuli)
        return self

    @model_validator(mode="after")
    def _scenes_have_a_policy(self) -> Job:
        stated = next((entry.id for entry in self.models if entry.scene_px), None)
        if stated is not None and self.stimuli.policy == "same_field_of_view":
            raise ValueError(
                f"scene_px of '{stated}' needs stimuli.policy = 'same_receptive_field', came 'same_field_of_view', under which "
                "scenes fill the input; drop it or change the policy"
            )
        return self

    @model_validator(mode="after")
    def _places_are_in_the_scene(self) -> Job:
        reduction = self.extraction.reduction
        if self.stimuli.policy == "same_receptive_field" and reduction not in ("center", "positions"):
            raise ValueError(
                f"extraction.reduction = '{reduction}' takes all positions of a map, of which under the policy "
                "same_receptive_field only those in the middle are shown the scene; choose center or positions"
            )
        return self

    @model_validator(mode="after")
    def _drawn_pairs_are_compared(self) -> Job:
        compared = {frozenset(pair) for pair in self.compared()}
        for pair in self.figure_pairs or ():
            if frozenset(pair) not in compared:
                raise ValueError(
                    f"figure_pairs names '{pair[0]}' and '{pair[1]}', which pairs does not compare; add them there"
                )
        return self

    def compared(self) -> list[tuple[str, str]]:
        """Return the pairs of models to compare, each in the job's order of models."""
        wanted = None if self.pairs is None else {frozenset(pair) for pair in self.pairs}
        models = [entry.id for entry in self.models]
        if wanted is None:
            return list(itertools.combinations(models, 2))
        return [pair for pair in itertools.combinations_with_replacement(models, 2) if frozenset(pair) in wanted]

    @property
    def in_units(self) -> bool:
        """Whether its layers are seen in all of their units."""
        return self.basis == "units" and self.dictionary.directions is None

    def copies_of(self, model: str) -> tuple[float, ...]:
        """Return the correlations of a model's noisy copies with it."""
        wanted = self.nulls.copied
        return self.nulls.noisy_copies if not wanted or model in wanted else ()

    def matched_by(self) -> str:
        """Return the method of matching that sentences and figures are about: the first of ``comparison.matching``."""
        return self.comparison.matching[0]

    def drawn(self) -> list[tuple[str, str]]:
        """Return the compared pairs that get figures of their own."""
        pairs = self.compared()
        if self.figure_pairs is None:
            return pairs[:MOST_FIGURE_PAIRS]
        wanted = {frozenset(pair) for pair in self.figure_pairs}
        return [pair for pair in pairs if frozenset(pair) in wanted]


def job_schema() -> dict[str, Any]:
    """Return the JSON schema of job files (draft 2020-12)."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Job.model_json_schema()}


LEAST_NATURAL = 24
"""Natural images that a job needs: units are matched on one half and scored on the other."""


def read_job(path: Path) -> Job:
    """Read a job file; raise `JobError` if it is malformed, `StimulusError` if a stimulus set is empty."""
    return job_of(parse_toml(path, "job", JobError), f"job '{path}'")


def job_of(values: dict[str, Any], where: str) -> Job:
    """Return the job that plain values state; raise as `read_job` does, in a sentence that begins with `where`."""
    job = validate(Job, values, where, JobError)
    images = natural.count(job.stimuli.natural)
    if images == 0:
        raise StimulusError(
            f"{where}: stimulus set 'natural' is empty (crops = 0, shapes = 0, no folders), expected at least one image; "
            "set stimuli.natural.crops, shapes or folders"
        )
    if images < LEAST_NATURAL:
        raise StimulusError(
            f"{where}: {images} natural images are too few to match units on one half and score them on the other, expected at "
            f"least {LEAST_NATURAL}; raise stimuli.natural.crops or shapes, or name more images in folders"
        )
    return job
