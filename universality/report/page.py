"""The page: what was found, shown and used, put into one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from universality.base.errors import UniversalityError
from universality.base.names import HAAR_NAME
from universality.report import pictures
from universality.report.cautions import cautions, processors
from universality.report.data import page_data
from universality.report.sentences import STANDINGS, findings
from universality.runs.provenance import KEY, as_text
from universality.runs.run import Run, replace_file
from universality.similarity.matching import HOW
from universality.stimuli import manifest, natural
from universality.stimuli.natural import NaturalStimuli
from universality.stimuli.sets import POLICIES

_SECTIONS = {
    "similarity__": "similarity",
    "detectors_against_depth__": "detectors",
    "tuning_family__": "detectors",
    "match": "matches",
}
_TITLES = {
    "correspondence_nulls": "Matched pairs of units where nothing should correspond",
    "circuits": "Incoming weights of matched units",
    "profiles": "How families are wired to families, by the difference of preferred angles",
    "profile_pairs": "How alike the wiring of a family is in two networks",
    "ablations": "What networks lose without a unit or a family",
    "ablation_classes": "What each class loses without a unit or a family",
    "attributions": "Effects of units among others that are removed",
    "patches": "Units that restore the answer to a changed image",
    "transplants": "Units of one network in the place of those of another",
    "circuit_and_role": "Whether alike weights say more of a role than alike responses",
    "pairs": "Pairs of layers: how many detectors met, and how many would in nulls",
}
"""Titles of the tables that belong to no section."""
_MOST_WEIGHTS = 12


def write(run: Run, out: Path | None = None, each: pictures.Each = map) -> Path:
    """Write the page of a run to `out` (left out: ``report.html`` in the run's directory) and return where it lies.

    `each(function, values)` does the pieces of the work that are worth sharing out, as `map` does; a run's workers do them in parallel.
    """
    out = out or run.path / "report.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    page = render(run, read_captions(run), each)
    replace_file(out, lambda partial: partial.write_text(page, encoding="utf-8"))
    return out


def read_captions(run: Run) -> dict[str, str]:
    """Return the captions of a run's figures by file stem, in the order of the stems."""
    folder = run.path / "figures"
    drawn = run.record.get("figures", {})
    return {stem: drawing["caption"] for stem, drawing in sorted(drawn.items()) if (folder / f"{stem}.png").is_file()}


def render(run: Run, captions: Mapping[str, str], each: pictures.Each = map) -> str:
    """Return the page. The same run gives the same text: nothing in it depends on the day or the machine that renders.

    Parameters
    ----------
    captions : mapping of str to str
        File stem of a figure in the run's folder ``figures`` -> its caption.
    each : callable
        Does the pieces of work, see `write`.
    """
    style, script = (static_text(name) for name in ("report.css", "report.js"))
    data = page_data(run, each)
    shown, left_out = figures_within(run.path / "figures", captions, each)
    return environment().get_template("report.html").render(
        run=run, record=run.record, key=KEY, provenance=as_text(run.record["provenance"]), job=run.job.plain(), findings=findings(run), cautions=cautions(run), figures=shown,
        left_out=left_out, strips=list(pictures.strips(run)), policy=POLICIES[run.job.stimuli.policy], haar=HAAR_NAME,
        taps=_taps(run), words=STANDINGS, titles=_TITLES, data=embedded(data), sections=data["tables"], style=style, script=script,
        style_hash=csp_hash(style), script_hash=csp_hash(script), weights=_weights(run),
        natural=natural_images(run.job.stimuli.natural), processors=processors(run.record), how=[HOW[method] for method in run.job.comparison.matching],
    )  # fmt: skip


def natural_images(spec: NaturalStimuli) -> str:
    """Return what the natural images of a job are, to follow "Natural images are"."""
    said = []
    if spec.crops:
        said.append(f"{spec.crops} crops of {min(spec.crops, len(natural.photographs()))} photographs")
    if spec.shapes:
        said.append(f"{spec.shapes} drawn images of the pocket zoo's world that no training has seen")
    if spec.folders:
        paths = [manifest.path_of(place) for place in spec.folders]
        named = ", ".join(f"'{path.parent.name if path.name == manifest.NAME else path.name}'" for path in paths)
        try:
            many = f"{natural.own_images(spec)} own images"
        except UniversalityError:  # the page is drawn where they no longer lie
            many = "own images"
        said.append(f"{many}, listed in {named}")
    return ", and ".join(said)


def embedded(data: Any) -> str:
    """Return JSON that is inert inside an HTML element: nothing in it can end the element or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def csp_hash(content: str) -> str:
    """Return the source expression by which a Content-Security-Policy allows exactly this inline content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def figures_within(
    folder: Path, captions: Mapping[str, str], each: pictures.Each = map, most_bytes: int = pictures.MOST_FIGURE_BYTES
) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """Return by section (data URI, caption) of the figures that fit, and the names of the files that do not."""
    shown: dict[str, list[tuple[str, str]]] = {section: [] for section in (*_SECTIONS.values(), "other")}
    left_out, held = [], 0
    uris = iter(each(pictures.figure_uri, ((folder / f"{stem}.png").read_bytes() for stem in captions)))
    for stem, caption in captions.items():
        uri = next(uris) if held < most_bytes else ""
        if not uri or held + len(uri) > most_bytes:
            left_out.append(f"figures/{stem}.png")
            continue
        held += len(uri)
        section = next((name for prefix, name in _SECTIONS.items() if stem.startswith(prefix)), "other")
        shown[section].append((uri, caption))
    return shown, left_out


def environment() -> Environment:
    """Return what renders pages: every value is escaped, and one that is missing is an error."""
    return Environment(
        loader=PackageLoader("universality.report", "static"),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def static_text(name: str) -> str:
    """Return one of the files that pages are made from."""
    return files("universality.report").joinpath("static", name).read_text(encoding="utf-8")


def _taps(run: Run) -> list[dict[str, Any]]:
    """Return one row per model: its id and its taps with depth and receptive field."""
    if not run.has("families"):
        return [{"model": entry.id, "taps": []} for entry in run.job.models]
    layers = run.families.drop_duplicates(["model", "tap"])
    return [
        {"model": model, "taps": rows[["tap", "depth", "rf_px", "n_units"]].to_dict("records")}
        for model, rows in layers.groupby("model", sort=False)
    ]


def _weights(run: Run) -> list[tuple[str, str]]:
    """Return model and hash of its weights, once per trained model of the record."""
    found = {entry["model"]: entry["weights"][:_MOST_WEIGHTS] for entry in run.recorded_stores if entry["seed"] is None}
    return list(found.items())
