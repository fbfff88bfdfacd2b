"""The command ``universality ledger``: claims of a folder held against a run, kept with it, and shown by its report."""

import json
import re
import shutil

import pandas as pd
import pytest

from universality import cli, open_run
from universality.base.errors import RunError
from universality.report import data, sentences
from universality.runs.run import problems

CLAIMS = {
    "held": 'claim = "There are units."\nprediction = "count(units) > 0"\nrule = "value"',
    "failed": 'claim = "There are a million units."\nprediction = "count(units) >= 1e6"\nnull = "count(units, seed >= 0)"\nrule = "value"',
    "undecided": 'claim = "Circuits are alike."\nprediction = "mean(circuits, s_w) > 0"',
}


@pytest.fixture
def claims(tmp_path):
    folder = tmp_path / "claims"
    folder.mkdir()
    for name, text in CLAIMS.items():
        (folder / f"{name}.toml").write_text(f'{text}\nchosen_on = []\nknown = ""\n', encoding="utf-8")
    return folder


def called(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["universality", "ledger", *map(str, words)])
    try:
        cli.main()
    except SystemExit as left:
        return left.code
    return 0


def test_claims_are_registered_held_kept_and_shown(small, claims, tmp_path, monkeypatch, capsys):
    path = tmp_path / "run"
    shutil.copytree(small.out, path)
    assert called(monkeypatch, "--claims", claims, "--register") in (0, None)
    assert "registered 3 of 3 claims: failed, held, undecided" in capsys.readouterr().out
    assert called(monkeypatch, path, "--claims", claims, "--json") in (0, None)
    found = {row["claim"]: row for row in json.loads(capsys.readouterr().out)["claims"]}
    assert {name: row["verdict"] for name, row in found.items()} == {name: name for name in CLAIMS}
    assert found["held"]["measured"] == len(small.run.units)
    assert found["undecided"]["reason"] == "the run has no table circuits"
    run = open_run(path)
    pd.testing.assert_frame_equal(pd.read_parquet(path / "ledger.parquet"), run.table("ledger"), check_dtype=False)
    assert "ledger" not in run.tables, "no stage makes it, so a reproduction does not look for it"
    assert data.page_data(run)["tables"]["ledger"]["rows"] == 3
    said = [finding.text for finding in sentences.findings(run) if finding.topic == "ledger"]
    assert said[0].startswith(
        "Claims of the ledger: 1 held, 1 failed, 1 are undecided (3 claims). Of the 2 that were decided 0 were registered before"
    )
    assert said[1].startswith("Failed: There are a million units.")
    assert "null" in said[1]
    assert list(problems(path, run.record)) == []
    (path / "ledger.parquet").write_bytes(b"another")
    assert ["ledger" in text for text in problems(path, run.record)] == [True]


def test_elsewhere_leaves_the_run_as_it_is(small, claims, tmp_path, monkeypatch, capsys):
    before = (small.out / "run.json").read_bytes()
    assert called(monkeypatch, small.out, "--claims", claims, "--out", tmp_path / "out") in (0, None)
    assert "held 0, failed 0, undecided 3" in capsys.readouterr().out  # not registered
    assert len(pd.read_csv(tmp_path / "out" / "ledger.csv")) == 3
    assert (small.out / "run.json").read_bytes() == before
    with pytest.raises(RunError, match="no table 'ledger'"):
        open_run(small.out).table("ledger")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--claims", "nowhere"], "nothing to do|is no folder of claims"),
        (["no-run"], "is not a run directory"),
    ],
)
def test_mistakes_get_one_sentence(claims, monkeypatch, capsys, words, why):
    words = words if "--claims" in words else [*words, "--claims", claims]
    assert called(monkeypatch, *words) not in (0, None)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert re.search(why, said)
