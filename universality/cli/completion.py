"""What a shell may complete: read from files and tables of names, without importing Torch.

They run at every press of the completion key, so none opens a card, a network or a table of results.
"""

from __future__ import annotations

import json
from pathlib import Path

import typer

from universality.base.paths import DEFAULT_RUNS, own_cards, resource


def model_ids(incomplete: str) -> list[str]:
    """Complete the ids of the package's cards and one's own."""
    folders = resource("model_zoo"), own_cards()
    found = {f"{path.parent.name}/{path.stem}" for folder in folders for path in folder.glob("*/*.toml")}
    return _beginning(incomplete, found)


def run_folders(incomplete: str) -> list[str]:
    """Complete the run directories below data/runs; elsewhere the shell completes paths itself."""
    return _beginning(incomplete, {str(path.parent) for path in Path(DEFAULT_RUNS).glob("**/run.json")})


def stimulus_sets(incomplete: str) -> list[str]:
    """Complete the names of stimulus sets."""
    from universality.stimuli.spec import StimuliSpec

    return _beginning(incomplete, set(StimuliSpec.model_fields) - {"policy", "also"})


def measures(incomplete: str) -> list[str]:
    """Complete the names of measures."""
    from universality.similarity import COMPARATORS

    return _beginning(incomplete, set(COMPARATORS))


def units(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the models and taps of the run named before, as ``MODEL:TAP:``."""
    try:
        record = json.loads((Path(context.params["run_path"]) / "run.json").read_text(encoding="utf-8"))
        models = record["job"]["models"]
        return _beginning(incomplete, {f"{model['id']}:{tap}:" for model in models for tap in model["taps"]})
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _beginning(incomplete: str, names: set[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
