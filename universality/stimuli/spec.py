"""The stimulus sets of a job: the parameters of each, and the policy that makes them common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model, model_validator

from universality.base.errors import did_you_mean
from universality.base.spec import Spec, unique
from universality.stimuli.kinds import STIMULI


class _Shown(Spec):
    """The job's common stimulus sets and the policy that makes them common."""

    policy: Literal["same_field_of_view", "same_receptive_field"] = Field(
        "same_field_of_view",
        description="every network sees the same scenes: sizes are in image sides, rendered at its own input size; or every "
        "tap's centre unit sees them in its receptive field: sizes are in receptive fields",
    )
    also: Annotated[tuple[str, ...], AfterValidator(unique)] = Field(
        (), description="sets that are shown and stored beside those that the job's families ask for"
    )

    if TYPE_CHECKING:

        def __init__(self, **sets: Any) -> None: ...

        def __getattr__(self, name: str) -> Any:
            """Parameters of the set `name`."""

    @model_validator(mode="after")
    def _also_are_sets(self) -> _Shown:
        for name in self.also:
            if name not in STIMULI:
                raise ValueError(f"also names '{name}', which is no stimulus set{did_you_mean(name, STIMULI)}")
        if "folder" in self.also and not self.folder.manifest:
            raise ValueError("also names 'folder', which has no images; name a manifest in stimuli.folder.manifest")
        return self


if TYPE_CHECKING:
    StimuliSpec = _Shown
else:
    # One field for each kind: a new line in the table is all that a job needs to take its parameters.
    StimuliSpec = create_model(
        "StimuliSpec",
        __base__=_Shown,
        __module__=__name__,
        __doc__=_Shown.__doc__,
        **{name: (kind.spec, Field(default_factory=kind.spec)) for name, kind in STIMULI.items()},
    )
