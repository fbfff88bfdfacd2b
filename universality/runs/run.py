"""A run's directory: tables, figures, report, and the record of where every number came from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from universality.activations.store import ActivationStore
from universality.base import html, schema
from universality.base.errors import RunError, did_you_mean
from universality.base.paths import is_file
from universality.base.spec import is_sealed
from universality.circuits.motif_tables import UNITS_MOTIFS
from universality.features.tables import joined, own_name
from universality.ledger.tables import LEDGER
from universality.models import catalogue
from universality.models.card import ModelCard
from universality.runs.job import Job
from universality.runs.provenance import RECORD, Facts, in_parquet
from universality.runs.tables import TABLES
from universality.similarity.matrix import layer_matrix

if TYPE_CHECKING:
    from universality.runs.examples import Gallery


class Run:
    """A finished run, read from its directory.

    Attributes
    ----------
    path : Path
        The run's directory.
    record : dict
        Provenance: job, digests of cards, weights and stimuli, versions, seeds, device, threads, command, times.
    """

    def __init__(
        self,
        path: Path,
        record: dict[str, Any],
        store: str | Path | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        self.path = path
        self.record = record
        self._store = None if store is None else str(store)
        self._tables = dict(tables or {})

    @cached_property
    def job(self) -> Job:
        """The job that was run."""
        return Job.model_validate(self.record["job"])

    @property
    def similarity(self) -> pd.DataFrame:
        """One row per pair of taps and measure; columns in ``schema.SIMILARITY``."""
        return self.table("similarity")

    @property
    def correspondence(self) -> pd.DataFrame:
        """One row per matched pair of units; columns in ``schema.CORRESPONDENCE``."""
        return self.table("correspondence")

    @property
    def correspondence_nulls(self) -> pd.DataFrame:
        """The same rows where nothing should correspond; columns in ``schema.CORRESPONDENCE_NULLS``."""
        return self.table("correspondence_nulls")

    @property
    def pairs(self) -> pd.DataFrame:
        """One row per pair of taps, family and method; columns in ``schema.PAIRS``."""
        return self.table("pairs")

    @property
    def families(self) -> pd.DataFrame:
        """One row per network and tap; columns in ``schema.FAMILIES``."""
        return self.table("families")

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row per unit and family, with what every family has; columns in ``features.tables.UNITS``.

        Behind them stand those of ``circuits.motif_tables.UNITS_MOTIFS`` where the run has that table (stage ``motifs``): a unit's cases and who reads
        it, NaN for untrained twins and for what was not asked. The file holds the first alone, as ``table("units")`` returns them.
        """
        units = self.table("units")
        if not self.has(UNITS_MOTIFS.name):
            return units
        keys = ["model", "seed", "tap", "family", "unit"]
        return units.merge(self.table(UNITS_MOTIFS.name), how="left", on=keys, validate="one_to_one")

    def units_of(self, family: str) -> pd.DataFrame:
        """Return one row per unit with every criterion of a family: its rows of ``units``, with its own columns behind.

        Raises
        ------
        RunError
            The run does not have the family, or no units: that stage was left out.
        """
        units = self.units
        if not self.has(own_name(family)):
            raise RunError(
                f"run '{self.path}' has no units of the family '{family}', expected one of {', '.join(dict.fromkeys(units['family']))}; "
                "add it to comparison.families of its job and run it"
            )
        return joined(family, units, self.table(own_name(family)))

    @property
    def tables(self) -> list[str]:
        """The names of its tables."""
        return table_names(self.record)

    def has(self, *names: str) -> bool:
        """Return whether the run has all of these tables, or the ledger, which no stage makes (``universality ledger``)."""
        beside = [LEDGER.name] if LEDGER.name in self.record else []
        return set(names) <= {*self.tables, *beside}

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the run's tables, read when it is first asked for, its columns checked.

        Raises
        ------
        RunError
            The run has no such table: its stage was left out.
        """
        if not self.has(name):
            raise RunError(
                f"run '{self.path}' has no table '{name}', expected one of {', '.join(self.tables)}; run its job again with --only and "
                "the stage that makes it"
            )
        if name not in self._tables:
            rows = pd.read_parquet(self.path / f"{name}.parquet")
            self._tables[name] = with_lists(name, rows)
        return self._tables[name]

    @cached_property
    def recorded_stores(self) -> list[dict[str, Any]]:
        """The record's entries of the stores of networks and untrained twins; those of noisy copies are read for the ceilings only."""
        return [entry for entry in self.record["stores"] if "copy_r" not in entry]

    @cached_property
    def trained_keys(self) -> dict[tuple[str, str, str], str]:
        """The stores of the trained networks: (model, tap, stimulus set) -> key."""
        return {(e["model"], e["tap"], e["stimuli"]): e["key"] for e in self.recorded_stores if e["seed"] is None}

    def activations(self, model: str, tap: str, stimuli: str = "natural", seed: int | None = None) -> xr.DataArray:
        """Open the activations of one tap lazily: (stimulus, unit) with the stimuli's parameters as coordinates.

        Behind a nonlinearity that clips from above, such as ReLU6, they are the values before that, cut at 0, which tuning and matching read
        (attribute ``values``); what the network hands on is their minimum with the largest value (``clips_at`` in the attribute ``tap``).

        The attributes say where the values come from; those that are more than a number or a text are JSON, so that
        xarray writes the array as netCDF and as Zarr.

        Parameters
        ----------
        model, tap : str
            Card id and tap name, as in the tables.
        stimuli : str
            Stimulus set that the job showed, such as ``natural``.
        seed : int, optional
            Seed of the untrained twin; None for the trained network.

        Raises
        ------
        RunError
            If the run has no such model, tap, set or seed.
        StoreError
            If the store is missing or damaged.
        """
        entries = self.recorded_stores
        asked = {"model": model, "tap": tap, "stimuli": stimuli, "seed": seed}
        for name, value in asked.items():
            known = [entry[name] for entry in entries]
            if value not in known:
                near = did_you_mean(str(value), {str(k) for k in known})
                raise RunError(f"run '{self.path}' has no {name} '{value}'{near}")
            entries = [entry for entry in entries if entry[name] == value]
        # How the store wrote its chunks binds no other file: Zarr 2, for one, has no such codecs.
        dataset = ActivationStore(self.store).open(entries[0]["key"]).drop_encoding()
        return dataset[schema.ACTIVATION].assign_attrs(
            {
                name: value if isinstance(value, str | int | float) else json.dumps(value)
                for name, value in dataset.attrs.items()
            }
        )

    def examples(self, model: str, tap: str, unit: int, *, size_px: int | None = None) -> xr.Dataset:
        """Return the natural examples of one unit of a trained network: parts of whole pictures, found over all positions.

        The ten pictures that the unit answers most to, and those at some quantiles of its answers to all pictures; of each picture the
        middle half of the receptive field where the unit answers most. Works for every unit, whether or not the run has the
        stage ``examples``: what a network answers to whole pictures is computed once and kept in the store.

        Parameters
        ----------
        model, tap : str
            Card id and tap name, as in the tables.
        size_px : int, optional
            Side of the pictures; as they are kept (112 px) when left out.

        Returns
        -------
        Dataset
            ``image`` (example, y, x, channel) uint8 RGB, ``value`` (example,) a.u., ``sigma`` (example,) the same in standard deviations over the
            job's natural images; coordinates as the columns of the table ``examples``: kind, rank, quantile, picture, source, licence,
            and the receptive field ``x_px``, ``y_px``, ``side_px`` in the picture.

        Raises
        ------
        RunError
            The run has no such model, tap or unit, or the unit answers the same to all pictures.
        StoreError
            The store is missing or damaged.
        """
        return self.gallery.of_unit(model, tap, unit, size_px)

    @cached_property
    def gallery(self) -> Gallery:
        """The examples of its units."""
        from universality.runs.examples import Gallery  # with Torch

        return Gallery(self)

    def matrix(self, measure: str, a: str, b: str, of: str = "value") -> xr.DataArray:
        """Return one measure between all layers of two networks, or of one with itself: (tap_a, tap_b), in forward order.

        Parameters
        ----------
        measure : str
            As in the table ``similarity``.
        a, b : str
            Card ids, in either order; a measure that is not symmetric is given in the order in which it was computed only.
        of : str
            ``value``, or of its nulls ``value_untrained``, ``value_haar``, ``value_shuffled``.

        Returns
        -------
        DataArray
            (tap_a, tap_b), coordinates ``depth_a`` and ``depth_b`` (relative depth, 0 to 1), attributes ``measure``,
            ``direction``, ``model_a``, ``model_b``; NaN where the measure is not defined.

        Raises
        ------
        RunError
            The run has no such measure, pair or column.
        """
        return layer_matrix(self.table("similarity"), measure, a, b, of)

    @property
    def store(self) -> str:
        """Folder or URL of the activation stores this run reads."""
        return self._store or str(self.record["store"])

    def _repr_html_(self) -> str:
        """Return a short summary for a notebook: question, detectors beside their nulls, verdicts, where the report lies."""
        said = [
            html.heading(self.record["job"].get("name", "")),
            html.paragraph(self.record["job"].get("question", "")),
        ]
        if self.has("families"):
            said.append(self._families_html())
        if self.has("correspondence", "correspondence_nulls"):
            said.append(html.paragraph(self._verdicts()))
        return "".join([*said, html.paragraph(f"The whole report: {self.path / 'report.html'}")])

    def _families_html(self) -> str:
        rows = [
            (
                row["model"], row["tap"], row["family"], f"{row['n_detectors']} of {row['n_units']}",
                f"{row['share_low']:.1%} to {row['share_high']:.1%}", f"{row['share_untrained']:.1%}", f"{row['share_haar']:.1%}",
            )
            for row in self.families.to_dict("records")
        ]  # fmt: skip
        heads = ("model", "tap", "family", "detectors", "95 % interval", "untrained twins", "random basis (Haar)")
        return html.table(heads, rows)

    def _verdicts(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.correspondence["verdict"].value_counts().items())
        nulls = self.correspondence_nulls
        same = int((nulls["verdict"] == "same_feature").sum())
        return (
            f"Matched pairs by verdict, all taps and methods: {counts or 'none'}. Where nothing should correspond (random bases, "
            f"untrained twins): same_feature {same} of {len(nulls)} pairs."
        )

    def __repr__(self) -> str:
        models = ", ".join(entry["id"] for entry in self.record["job"]["models"])
        return f"<Run '{self.record['job']['name']}' of {models} in {self.path}>"


class _Numbers(np.ndarray):
    """The numbers of one cell; their text is a JSON list: NumPy's own would keep eight digits in what pandas writes as CSV."""

    def __str__(self) -> str:
        return json.dumps(self.tolist())


def with_lists(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows as a table's schema has them; cells of several numbers are written by pandas with all digits."""
    if name not in TABLES:
        return rows
    table = TABLES[name]
    lists = [column.name for column in table.columns if column.kind == "floats"]
    return schema.as_table(table, rows).assign(**{name: [cell.view(_Numbers) for cell in rows[name]] for name in lists})


def open_run(path: str | Path, store: str | Path | None = None) -> Run:
    """Reopen a finished run.

    Parameters
    ----------
    path : path
        The run's directory; it may have been copied or moved.
    store : path or URL, optional
        Where its activations lie now, if they were moved.

    Raises
    ------
    RunError
        If the directory is missing, is not a run's, was not finished, or a table was changed since.

    Examples
    --------
    >>> open_run("no-such-folder")
    Traceback (most recent call last):
        ...
    universality.base.errors.RunError: 'no-such-folder' is not a run directory: it has no run.json; give the folder that a run wrote
    >>> run = open_run("data/runs/quickstart")  # doctest: +SKIP
    >>> run.correspondence.query("verdict == 'same_feature'")  # doctest: +SKIP
    """
    path = Path(path)
    record = read_record(path)
    if record is None:
        raise RunError(f"'{path}' is not a run directory: it has no {RECORD}; give the folder that a run wrote")
    if record.get("status") != "complete":
        raise RunError(f"run '{path}' was not finished; run the job again, it goes on where it stopped")
    check_tables(path, record)
    for name, card in record.get("in_hand", {}).items():
        catalogue.IN_HAND.setdefault(name, ModelCard.model_validate(card))
    return Run(path, record, store)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a run directory, or None where there is none; raise `RunError` if it is unreadable."""
    file = path / RECORD
    if not is_file(file):
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as cause:
        raise RunError(f"record '{file}' cannot be read: {cause.strerror or cause}; check its permissions") from None
    except (ValueError, RecursionError) as cause:
        lacks = f"it is no JSON ({type(cause).__name__}: {cause})"
    else:
        lacks = _lacks(record)
    if lacks:
        raise RunError(f"record '{file}' is damaged: {lacks}; delete the folder and run the job again")
    return dict(record)


_STATUSES = ("started", "complete")
_ALWAYS = {"status": str, "job_digest": str, "job": dict}
_WHEN_COMPLETE = {"inputs_digest": str, "tables": dict, "store": str, "stores": list}


def _lacks(record: Any) -> str:
    """Return what a record lacks of what is read from it, or has of the wrong kind; empty where it has everything."""
    if not isinstance(record, dict):
        return f"it holds {type(record).__name__}, expected an object"
    if isinstance(record.get("status"), str) and record["status"] not in _STATUSES:
        return f"its status is '{record['status']}', expected {' or '.join(_STATUSES)}"
    wanted = _ALWAYS | (_WHEN_COMPLETE if record.get("status") == "complete" else {})
    lacks = [key for key, kind in wanted.items() if not isinstance(record.get(key), kind)]
    return f"it has no sound {', '.join(lacks)}" if lacks else ""


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write the record in one step, so that it is never read half-written."""
    replace_file(
        path / RECORD, lambda partial: partial.write_text(json.dumps(record, indent=1, sort_keys=True), "utf-8")
    )


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it in the place of `path` in one step."""
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_tables(path: Path, record: dict[str, Any]) -> None:
    """Compare the record and every table with their checksums; raise `RunError` for the first that differs."""
    for problem in record_problems(path, record):
        raise RunError(problem)
    for problem in _table_problems(path, record):
        raise RunError(problem)


def problems(path: Path, record: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for every table, figure and report of a finished run that is not as it was written.

    Of a record that is not as it was written nothing else is said: what it states of the other files cannot be believed.
    """
    damaged = list(record_problems(path, record))
    yield from damaged or file_problems(path, record)


def file_problems(path: Path, record: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for every table, figure and report that differs from what an undamaged record says."""
    yield from _table_problems(path, record)
    for drawing in record.get("figures", {}).values():
        for name, expected in drawing["files"].items():
            yield from _file_problems(path, "figure", name, expected)
    if "report" not in record:
        yield f"run '{path}' was written before figures and report had checksums; run the job again"
    else:
        yield from _file_problems(path, "report", "report.html", record["report"])
    if "ledger" in record:
        yield from _file_problems(path, "ledger", f"{LEDGER.name}.parquet", record["ledger"])


def record_problems(path: Path, record: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence if the record of a finished run is not as it was written."""
    # Records from before there was a digest have none, and say so by lacking the report's checksum too.
    if "report" in record and not is_sealed(record):
        yield f"record '{path / RECORD}' differs from its own digest: it was changed or damaged; run the job again"


def _table_problems(path: Path, record: dict[str, Any]) -> Iterator[str]:
    for name, expected in record["tables"].items():
        yield from _file_problems(path, "table", name, expected)


def _file_problems(path: Path, kind: str, name: str, expected: Any) -> Iterator[str]:
    file = path / name
    if not is_file(file):
        yield f"run '{path}' lacks its {kind} '{name}'; run the job again"
    elif file_sha256(file) != expected:
        yield f"{kind} '{file}' differs from its checksum: it was changed or damaged; run the job again"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table_names(record: dict[str, Any]) -> list[str]:
    """Return the names of the tables that a run's record names, in its order of stages."""
    return [Path(name).stem for name in record["tables"]]


def row_counts(run: Run) -> dict[str, int]:
    """Return how many rows each of the run's tables has, without reading them."""
    return {name: pq.read_metadata(run.path / f"{name}.parquet").num_rows for name in table_names(run.record)}


def write_table(path: Path, table: schema.Table, rows: pd.DataFrame, facts: Facts) -> Path:
    """Write a table as Parquet; same rows and facts, same bytes.

    The metadata hold every column's meaning, unit and range, and where the numbers come from (`provenance.provenance`).
    """
    arrow = pa.Table.from_pandas(rows, preserve_index=False)
    fields = [
        arrow.schema.field(column.name).with_metadata(
            {"meaning": column.meaning, "unit": column.unit, "range": column.range}
        )
        for column in table.columns
    ]
    described = pa.schema(fields, metadata={**(arrow.schema.metadata or {}), b"row": table.row.encode()})
    described = in_parquet(described, facts)
    file = path / f"{table.name}.parquet"
    replace_file(file, lambda partial: pq.write_table(arrow.cast(described), partial, compression="zstd"))
    return file
