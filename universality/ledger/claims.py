"""Claims: files that say what is predicted, and the register that says since when.

A folder of claims holds ``NAME.toml`` for each and ``registered.toml``, which has the digest and the time of every registered one. Who
changes a claim afterwards is told so: a prediction that is mended when the outcome is seen predicts nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import AfterValidator, Field, model_validator

from universality.base.errors import ClaimError
from universality.base.spec import Int, Sha256, Spec, unique
from universality.base.toml import parse_toml, validate
from universality.ledger import expressions, rows

REGISTER = "registered.toml"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def _prediction(text: str) -> str:
    try:
        expressions.prediction(text)
    except ClaimError as cause:
        raise ValueError(str(cause)) from None
    return text


def _expression(text: str) -> str:
    try:
        if text:
            expressions.expression(text)
    except ClaimError as cause:
        raise ValueError(str(cause)) from None
    return text


def _rows(text: str) -> str:
    try:
        if text:
            rows.row_expression(text)
    except ClaimError as cause:
        raise ValueError(str(cause)) from None
    return text


Words = Annotated[str, Field(min_length=1, max_length=600)]
Made = Annotated[str, AfterValidator(_expression)]


class Claim(Spec):
    """One claim, written down before the run that decides it."""

    claim: Words = Field(description="what is claimed, in a sentence")
    published: str = Field("", description="where it was published; empty for one of our own")
    prediction: Annotated[str, AfterValidator(_prediction)] = Field(
        description="a comparison of a number made from tables with one or two bounds"
    )
    intervention: str = Field("", description="what is done to the networks; empty where they are only watched")
    null: Made = Field("", description="the number where the claim is not true, made from tables; empty for none")
    against: Literal["", "above", "below"] = Field(
        "", description="on which side of the null the measured value has to lie as well, by the same rule"
    )
    ceiling: Made = Field("", description="the largest value that could be expected, made from tables; empty for none")
    each: Annotated[str, AfterValidator(_rows)] = Field(
        "", description="made from columns, such as model: the claim is about the rows of each value by themselves"
    )
    rule: Literal["interval", "value"] = Field(
        "interval",
        description="interval: the whole 95 % interval has to be as predicted; value: the number alone decides",
    )
    over: Literal["networks", "rows"] = Field("networks", description="what is resampled for the interval")
    least: Int = Field(1, ge=1, description="fewest rows that decide anything")
    chosen_on: Annotated[tuple[str, ...], AfterValidator(unique)] = Field(
        description="networks (card ids) on which the rule, the bounds or the definitions were chosen; [] for none"
    )
    known: str = Field(description="where its author had seen an outcome before writing this; empty for nowhere")

    @model_validator(mode="after")
    def _null_is_there(self) -> Claim:
        if self.against and not self.null:
            raise ValueError(f"against = '{self.against}' needs a null, which is empty")
        return self

    @property
    def texts(self) -> dict[str, str]:
        """Its expressions over tables that are there, by key."""
        named = {"prediction": self.prediction, "null": self.null, "ceiling": self.ceiling}
        return {name: text for name, text in named.items() if text}

    @property
    def each_node(self) -> ast.expr | None:
        """What it asks about each of, parsed."""
        return rows.row_expression(self.each) if self.each else None


class Entry(Spec):
    """What the register has of one claim."""

    sha256: Sha256
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]

    @property
    def unix_s(self) -> float:
        """The time, s since 1970."""
        return datetime.strptime(self.time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Ledger:
    """A folder of claims and its register.

    Attributes
    ----------
    claims : by name, sorted
    register : by name; it may name claims that are gone
    """

    folder: Path
    claims: Mapping[str, Claim]
    register: Mapping[str, Entry]

    @property
    def changed(self) -> list[str]:
        """Claims that are not what was registered."""
        return [n for n, c in self.claims.items() if n in self.register and self.register[n].sha256 != c.digest()]

    @property
    def unregistered(self) -> list[str]:
        """Claims that were not registered."""
        return [name for name in self.claims if name not in self.register]

    @property
    def lost(self) -> list[str]:
        """Registered claims whose files are gone: a claim that failed may have been thrown away."""
        return [name for name in self.register if name not in self.claims]

    @property
    def problems(self) -> list[str]:
        """What is not as it was registered, a sentence each."""
        said = {
            "changed": "claim '{0}' is not what was registered on {1}: put it back, or write the new one under another name",
            "lost": "claim '{0}', registered on {1}, is gone: put its file back; a claim stays in the ledger whatever became of it",
        }
        return [said[kind].format(n, self.register[n].time) for kind in said for n in getattr(self, kind)]


def read(folder: Path) -> Ledger:
    """Read a folder of claims.

    Raises
    ------
    ClaimError
        There is no such folder, it holds no claim, or one is malformed.
    """
    if not folder.is_dir():
        raise ClaimError(f"'{folder}' is no folder of claims; give one with --claims, such as analyses/ledger/claims")
    files = sorted(path for path in folder.glob("*.toml") if path.name != REGISTER)
    if not files:
        raise ClaimError(
            f"folder '{folder}' holds no claim, expected files NAME.toml; see docs/how-to/keep-a-ledger.md"
        )
    claims = {}
    for path in files:
        if not _NAME.fullmatch(path.stem):
            raise ClaimError(
                f"claim '{path}' has a name that is none, expected small letters, digits and hyphens; rename it"
            )
        claims[path.stem] = validate(Claim, parse_toml(path, "claim", ClaimError), f"claim '{path}'", ClaimError)
    return Ledger(folder, claims, _register(folder / REGISTER))


def _register(path: Path) -> dict[str, Entry]:
    if not path.is_file():
        return {}
    entries = parse_toml(path, "register of claims", ClaimError)
    return {name: validate(Entry, entry, f"entry '{name}' of '{path}'", ClaimError) for name, entry in entries.items()}


def register(ledger: Ledger, now: datetime) -> list[str]:
    """Add the claims that are not registered yet to the register, with the time; return their names.

    Raises
    ------
    ClaimError
        A registered claim was changed, or is gone.
    """
    for problem in ledger.problems:
        raise ClaimError(problem)
    time = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    new = {name: Entry(sha256=ledger.claims[name].digest(), time=time) for name in ledger.unregistered}
    if new:
        entries = {name: entry.plain() for name, entry in sorted({**ledger.register, **new}.items())}
        (ledger.folder / REGISTER).write_text(tomli_w.dumps(entries), encoding="utf-8")
    return list(new)
