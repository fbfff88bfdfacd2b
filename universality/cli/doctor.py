"""What works on this machine: Python, packages, device, cards, weights, and the folder of the stores."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement

from universality.activations.store import ActivationStore, store_at
from universality.base.errors import CardError, StoreError, WeightsError
from universality.base.paths import DEFAULT_STORE, own_cards
from universality.models import catalogue, weight_files
from universality.models.card import ModelCard
from universality.runs.provenance import processor

State = Literal["ok", "note", "fault"]
LEAST_FREE_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """The result of one check: a fault keeps jobs from running, a note is for information."""

    subject: str
    state: State
    detail: str


def examine(store: str | Path, *, online: bool = False, verify: bool = False) -> list[Finding]:
    """Check everything a job needs, without changing anything.

    Parameters
    ----------
    store : path or URL
        Folder of the activation stores.
    online : bool
        Also ask, briefly, whether missing weights could be fetched.
    verify : bool
        Also compare every file of every store with its checksum.
    """
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _device,
        lambda: _weights(online),
        lambda: _store(store, verify),
    )
    return [finding for part in parts for finding in part()]


def _python() -> Iterator[Finding]:
    state: State = "ok" if sys.version_info >= (3, 11) else "fault"
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores ({processor()})"
    yield Finding("python", state, detail if state == "ok" else f"{detail}; expected 3.11 or newer")


def _packages() -> Iterator[Finding]:
    """Compare what is installed with the package's own requirements."""
    try:
        wanted = [Requirement(text) for text in requires("universality") or ()]
    except PackageNotFoundError:
        yield Finding("packages", "note", "universality is not installed as a package: its requirements are not known")
        return
    faults = []
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            came = version(requirement.name)
        except PackageNotFoundError:
            faults.append(f"{requirement.name} is missing, expected {requirement.specifier}")
            continue
        if not requirement.specifier.contains(came, prereleases=True):
            faults.append(f"{requirement.name} is {came}, expected {requirement.specifier}")
    if faults:
        yield Finding("packages", "fault", "; ".join(faults) + "; run `pip install universality`")
    else:
        shown = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "numpy", "xarray", "zarr", "dask"))
        yield Finding("packages", "ok", shown)


def _device() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        yield Finding("GPU", "note", "none that Torch can use; networks run on the CPU")
        return
    name = torch.cuda.get_device_name(0)
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as cause:
        yield Finding("GPU", "fault", f"{name} is there but fails: {str(cause).splitlines()[0]}; check its driver")
        return
    free, total = torch.cuda.mem_get_info()
    yield Finding("GPU", "ok", f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")


def _weights(online: bool) -> Iterator[Finding]:
    try:
        cards = catalogue.cards()
    except CardError as error:
        yield Finding("model cards", "fault", str(error))
        return
    yield Finding("model cards", "ok", f"{len(cards)}, own ones in '{own_cards()}'")
    here: list[ModelCard] = []
    elsewhere: list[ModelCard] = []
    for card in cards.values():
        try:
            (here if weight_files.weights_at_hand(card) else elsewhere).append(card)
        except WeightsError as error:
            yield Finding(f"weights of {card.id}", "fault", str(error))
            return
    yield Finding("weights at hand", "ok" if len(here) > 1 else "note", ", ".join(card.id for card in here) or "none")
    for card in elsewhere:
        if not online:
            continue
        reached = weight_files.weights_reachable(card)
        yield Finding(
            f"weights of {card.id}",
            "ok" if reached else "note",
            "can be fetched" if reached else "cannot be fetched here",
        )
    if elsewhere and not online:
        names = ", ".join(card.id for card in elsewhere)
        yield Finding("weights not at hand", "note", f"{names}; --online asks whether they can be fetched")


def _store(location: str | Path, verify: bool) -> Iterator[Finding]:
    store = store_at(location, DEFAULT_STORE)
    subject = f"store {store.location}"
    try:
        store.check()
    except StoreError as error:
        yield Finding(subject, "fault", str(error))
        return
    local = "://" not in store.location
    if local:
        yield from _folder(subject, store.root)
    names = sorted(name for name in store.place.names() if store.has(name))
    damaged = [damage for name in names if verify and (damage := _damage(store, name))]
    for damage in damaged:
        yield Finding(subject, "fault", damage)
    partial = len(store.partial()) if local else 0
    halves = f", {partial} half-written by a run that goes on or was interrupted" if partial else ""
    checked = ", every file as it was written" if verify and not damaged else ""
    yield Finding(subject, "note" if partial else "ok", f"{len(names)} activation stores{checked}{halves}")


def _folder(subject: str, root: Path) -> Iterator[Finding]:
    existing = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        yield Finding(subject, "fault", f"'{existing}' cannot be written; give another folder with --store")
    free = shutil.disk_usage(existing).free / 1e9
    few = free < LEAST_FREE_GB
    yield Finding("disk", "note" if few else "ok", f"{free:.1f} GB free" + ("; a large job may not fit" if few else ""))


def _damage(store: ActivationStore, name: str) -> str:
    try:
        store.verify(name)
    except StoreError as error:
        return str(error)
    return ""
