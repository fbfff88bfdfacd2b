"""What a folder's sidecar states: where CSVs come from, which tables they were made of, and whether they are as written."""

import json
import shutil
from pathlib import Path

import pytest

from universality.base.errors import RunError
from universality.figures import export
from universality.runs import sidecars
from universality.runs.provenance import SIDECAR, code, provenance
from universality.runs.run import Run, file_sha256, open_run
from universality.runs.upkeep import problems


@pytest.fixture(scope="module")
def drawn(small, tmp_path_factory) -> Path:
    """The small run with a folder of figures of one kind."""
    folder = tmp_path_factory.mktemp("drawn") / "run"
    shutil.copytree(small.out, folder)
    draw(open_run(folder, small.store))
    return folder


@pytest.fixture
def run(drawn, small, tmp_path) -> Run:
    shutil.copytree(drawn, tmp_path / "run")
    return open_run(tmp_path / "run", small.store)


@pytest.fixture
def folder(run) -> Path:
    return run.path / "paper"


def draw(run: Run, kind: str = "similarity") -> Path:
    list(export(run, run.path / "paper", kinds=[kind], formats=["svg"]))
    return run.path / "paper"


def test_it_names_job_code_tables_and_every_file(run, folder):
    known = json.loads((folder / SIDECAR).read_text())
    assert known["provenance"]["job_digest"] == known["run"]["job_digest"] == run.job.digest()
    assert known["code"] == code()
    assert known["tables"]["similarity.parquet"] == file_sha256(run.path / "similarity.parquet")
    assert known["files"] == {p.name: file_sha256(p) for p in folder.iterdir() if p.name != SIDECAR}
    assert {Path(name).suffix for name in known["files"]} == {".csv", ".svg", ".md"}


def test_a_csv_knows_where_it_comes_from_and_another_one_does_not(run, folder):
    file = next(folder.glob("*.csv"))
    assert provenance(file) == run.record["provenance"]
    file.write_text(file.read_text() + "1\n")
    with pytest.raises(RunError, match="carries no provenance"):
        provenance(file)


def test_what_is_not_made_again_stays_outdated(run, folder, small):
    old = next(folder.glob("*.csv"))
    run.record["tables"]["similarity.parquet"] = "0" * 64
    draw(run, "detectors_against_depth")
    draw(run, "detectors_against_depth")
    said = list(sidecars.problems(run.path, run.record))
    assert [str(old), str(next(folder.glob("similarity*.svg")))] == [text.split("'")[1] for text in said]
    assert all("other tables" in text for text in said)
    draw(run)
    assert list(sidecars.problems(run.path, run.record)) == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"files": 3, "provenance": {}}'])
def test_a_csv_beside_a_damaged_sidecar_blames_the_sidecar(run, folder, text):
    (folder / SIDECAR).write_text(text)
    with pytest.raises(RunError, match=rf"{SIDECAR}', which says where .* is damaged"):
        provenance(next(folder.glob("*.csv")))


def test_a_second_export_adds_and_a_third_gives_the_same_bytes(run, folder):
    first = json.loads((folder / SIDECAR).read_text())["files"]
    draw(run, "detectors_against_depth")
    both = (folder / SIDECAR).read_bytes()
    assert set(first) < set(json.loads(both)["files"])
    draw(run, "detectors_against_depth")
    assert (folder / SIDECAR).read_bytes() == both


def test_a_changed_a_lost_and_an_outdated_file_have_their_sentences(run, folder, small):
    assert list(problems(run.path, small.store)) == []
    csv, svg = (next(folder.glob(f"*.{suffix}")) for suffix in ("csv", "svg"))
    csv.write_text(csv.read_text() + "1\n")
    svg.unlink()
    said = list(problems(run.path, small.store))
    assert len(said) == 2 and "differs from its checksum" in said[0] and f"lacks its file '{svg.name}'" in said[1]
    other = run.record | {"tables": run.record["tables"] | {"units.parquet": "0"}}
    assert "were made of other tables than the run has now" in next(sidecars.problems(run.path, other))
    (folder / SIDECAR).write_text("[]")
    assert [*sidecars.problems(run.path, run.record)] == [
        f"'{folder / SIDECAR}' is damaged, expected JSON with checksums; make the folder's files again"
    ]


def test_every_flipped_bit_of_a_sidecar_is_one_damage_and_it_is_named(run, folder, small):
    """Whatever it says then: another table, another name of a file, another origin of a CSV. Every seventh byte."""
    file, csv = folder / SIDECAR, next(folder.glob("*.csv"))
    sound = file.read_bytes()
    for at in range(0, len(sound), 7):
        damaged = bytearray(sound)
        damaged[at] ^= 1 << (at % 8)
        file.write_bytes(damaged)
        (said,) = sidecars.problems(run.path, run.record)
        assert str(file) in said and "\n" not in said, f"byte {at}"
        with pytest.raises(RunError, match="which says where"):
            provenance(csv)
    file.write_bytes(sound)
    assert list(sidecars.problems(run.path, run.record)) == []


def test_an_atlas_without_checksums_is_named(run, small):
    (run.path / "atlas").mkdir()
    shutil.copy(run.path / "units.parquet", run.path / "atlas" / "atlas.parquet")
    (said,) = problems(run.path, small.store)
    assert "write it again with: universality atlas" in said
