"""A run's figures as files for a paper: exact widths, editable text, and the drawn numbers beside each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import pandas as pd

from universality.atlas import cells, groups
from universality.base.errors import RunError, did_you_mean
from universality.figures.kinds import FIGURES, Drawing, drawings
from universality.figures.style import WIDTHS_MM, save
from universality.runs import sidecars
from universality.runs.run import Run, replace_file

FORMATS = ("pdf", "svg", "png")
CAPTIONS = "captions.md"
_OF_PAIRS = frozenset(
    {"similarity", "correspondence", "pairs", "similarity_pairs", "index_by_pair", "index_by_feature"}
)
"""Tables that are empty where no two networks were compared."""


class Tables(Mapping[str, pd.DataFrame]):
    """Every table that a figure may need, read or computed when it is first asked for."""

    def __init__(self, run: Run) -> None:
        self._sources: dict[str, Callable[[], pd.DataFrame]] = {name: self._of_run(run, name) for name in run.tables}
        if "similarity" in self._sources:
            self._sources["similarity_pairs"] = lambda: _by_pair(self["similarity"])
            self._sources["similarity_groups"] = lambda: groups.by_group(self["similarity_pairs"], seed=run.job.seed)
        if "atlas" not in self._sources and run.has("families", "units", "correspondence"):
            self._sources["atlas"] = lambda: cells.atlas(run)  # the known families; cliques need the stage
        self._read: dict[str, pd.DataFrame] = {}

    @staticmethod
    def _of_run(run: Run, name: str) -> Callable[[], pd.DataFrame]:
        return lambda: run.table(name)

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._read:
            self._read[name] = self._sources[name]()
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _by_pair(similarity: pd.DataFrame) -> pd.DataFrame:
    from universality.models.catalogue import cards

    return groups.by_pair(similarity, cards())


def lacking(run: Run) -> dict[str, str]:
    """Return what the run lacks for every kind of figure that cannot be drawn of it, by kind."""
    tables, compared = Tables(run), run.job.compared()
    found = {}
    for name, kind in FIGURES.items():
        if not compared and not _OF_PAIRS.isdisjoint(kind.needs):
            found[name] = "pairs of networks, and the job compares none"
        elif any(table not in tables for table in kind.tables):
            missing = ", ".join(table for table in kind.tables if table not in tables)
            found[name] = f"tables of stages that the run left out ({missing})"
    return found


def export(
    run: Run,
    folder: Path,
    *,
    formats: Sequence[str] = FORMATS,
    width: str = "double",
    kinds: Sequence[str] | None = None,
    as_drawn: bool = False,
) -> Iterator[list[Path]]:
    """Draw a run's figures for a paper; yield the files of each figure as they are written, captions last.

    A figure is one file per format, with its provenance inside, and a CSV with the numbers that are drawn, to the last
    digit. The same run gives the same bytes.

    Parameters
    ----------
    folder : Path
        Where the files go; it is made.
    formats : sequence of str
        Of `FORMATS`. PDF has Type 42 fonts, SVG has text as text, PNG 300 dots per inch.
    width : str
        ``single`` (89 mm) or ``double`` (183 mm).
    kinds : sequence of str, optional
        Names in `FIGURES`; left out: all for which the run has tables.
    as_drawn : bool
        Copy the files of a figure that the run's directory holds undamaged instead of drawing it again: those of the run's own
        formats (PNG, PDF), drawn as wide as ``double``. Of a run that has just ended they are the same to the byte.

    Raises
    ------
    RunError
        A name is unknown, the run lacks what a kind needs (`lacking`), or `folder` is the one that the run's own figures lie in.
    """
    if not formats:
        raise RunError(f"no format is given, expected some of {', '.join(FORMATS)}")
    for given, known, what in (
        (formats, FORMATS, "format"), ((width,), tuple(WIDTHS_MM), "width"), (kinds or (), tuple(FIGURES), "kind of figure"),
    ):  # fmt: skip
        for name in given:
            if name not in known:
                near = did_you_mean(name, known)
                raise RunError(f"unknown {what} '{name}', expected one of {', '.join(known)}{near}")
    lacks = lacking(run)
    for name in kinds or ():
        if name in lacks:
            raise RunError(f"figures of kind '{name}' cannot be drawn of run '{run.path}': they need {lacks[name]}")
    if folder.resolve() == (run.path / "figures").resolve():
        raise RunError(
            f"'{folder}' holds the run's own figures, whose checksums its record keeps; choose another folder"
        )
    return _write(
        run,
        folder,
        list(dict.fromkeys(formats)),
        WIDTHS_MM[width],
        kinds or [name for name in FIGURES if name not in lacks],
        as_drawn and width == "double",
    )


def _write(
    run: Run, folder: Path, formats: Sequence[str], width_mm: float, kinds: Sequence[str], as_drawn: bool
) -> Iterator[list[Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    captions, written = [], []
    wanted = [name for name in FIGURES if name in kinds]
    for drawing in drawings(Tables(run), run.job.drawn(), run.job.matched_by(), run.job.comparison.families, wanted):
        written += _save(run, folder, drawing, formats, width_mm, as_drawn)
        yield written[-len(formats) - 1 :]
        captions.append(f"## {drawing.stem}\n\n{drawing.caption}\n")
    file = folder / CAPTIONS
    text = f"# Figures of run {run.job.name}, {width_mm:g} mm wide\n\n" + "\n".join(captions)
    replace_file(file, lambda partial: partial.write_text(text, encoding="utf-8"))
    yield [file, sidecars.write(run, folder, [*written, file])]


def _save(
    run: Run, folder: Path, drawing: Drawing, formats: Sequence[str], width_mm: float, as_drawn: bool
) -> list[Path]:
    suffixes = [f".{name}" for name in formats]
    facts, about = run.record.get("provenance"), {"kind": drawing.kind, "caption": drawing.caption}
    kept = {suffix: _kept(run, drawing.stem + suffix) for suffix in suffixes if as_drawn}
    found = {suffix: content for suffix, content in kept.items() if content is not None}
    if len(found) == len(suffixes):
        files = [folder / f"{drawing.stem}{suffix}" for suffix in suffixes]
        for file, content in zip(files, found.values(), strict=True):
            file.write_bytes(content)
    else:
        files = save(drawing.figure(width_mm), folder / drawing.stem, facts, suffixes, **about)
    data = drawing.data()
    files.append(folder / f"{drawing.stem}.csv")
    replace_file(files[-1], lambda partial: data.to_csv(partial, index=False, lineterminator="\n"))
    return files


def _kept(run: Run, name: str) -> bytes | None:
    """Return a figure's file of the run's directory; None if it is absent or damaged."""
    file = run.path / "figures" / name
    sums = run.record.get("figures", {}).get(file.stem, {}).get("files", {})
    try:
        content = file.read_bytes()
    except OSError:
        return None
    return content if sha256(content).hexdigest() == sums.get(f"figures/{name}") else None
