"""The pages: what they show is what the tables and the API say, every link leads somewhere, and names stay text."""

import io
import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import duckdb
import numpy as np
import pandas as pd
import pytest
from service_pages_parts import EVIL, PAGE, Page, rows_of, served
from service_parts import HERE, SMALL

from universality.base.errors import JobError, MissingError, RunError
from universality.base.spec import Spec, sealed
from universality.runs.job import Job, job_of
from universality.runs.run import Run, open_run
from universality.service import progress, similarities, tables
from universality.service.database import EventRow, JobRow
from universality.service.pages import diagrams, job_form
from universality.service.pages.rendering import brief, unit_url
from universality.service.principals import Principal
from universality.similarity.matrix import STATES

FORM = {"sec-fetch-site": "same-origin", "origin": HERE, **PAGE}


@pytest.fixture(scope="module")
def client(whole, tmp_path_factory):
    with served(whole, tmp_path_factory.mktemp("service")) as client:
        yield client


@pytest.fixture(scope="module")
def run(client):
    return open_run(client.app.state.settings.runs / "one")


@pytest.fixture(scope="module")
def matched(run):
    """The best matched pair of units."""
    table = run.correspondence[run.correspondence["method"] == run.job.matched_by()]
    best = table.sort_values("r_natural").iloc[-1]
    return [(best[f"model_{s}"], best[f"tap_{s}"], int(best[f"unit_{s}"])) for s in "ab"]


def shown(client, address):
    answer = client.get(address)
    assert answer.status_code == 200, (address, answer.text[-2000:])
    return answer.text


def sent(client, address, **fields):
    token = json.loads(next(a["hx-headers"] for t, a in Page(client.get("/lists").text).elements if t == "body"))[
        "X-CSRF-Token"
    ]
    return client.post(address, data={"csrf": token, **fields}, headers=FORM)


# ---- tables: against pandas


@pytest.mark.parametrize(
    ("query", "mask"),
    [
        ("f.r_natural=0.2..0.6", lambda t: t["r_natural"].between(0.2, 0.6)),
        ("f.r_natural=>0.4", lambda t: t["r_natural"] > 0.4),
        ("f.r_natural=..-0.05", lambda t: t["r_natural"] <= -0.05),
        ("f.unit_a=%3D3", lambda t: t["unit_a"] == 3),
        ("f.unit_a=!%3D3", lambda t: t["unit_a"] != 3),
        ("f.detector_a=true&f.verdict=%3Dunmatched", lambda t: t["detector_a"] & (t["verdict"] == "unmatched")),
        ("f.verdict=MATCH", lambda t: t["verdict"].str.contains("match")),
        ("f.ceiling_a=empty", lambda t: t["ceiling_a"].isna()),
        ("f.ceiling_a=not empty", lambda t: t["ceiling_a"].notna()),
        ("where=r_natural:ge:0.3&where=detector_b:eq:true", lambda t: (t["r_natural"] >= 0.3) & t["detector_b"]),
        ("q=LITE0 hungarian", lambda t: (t["method"] == "hungarian") & (t["model_a"] + t["model_b"]).str.contains("lite0")),
    ],
)  # fmt: skip
def test_filters_are_those_of_pandas(client, run, query, mask):
    table = run.correspondence
    expected = table[mask(table)]
    found = client.get(
        f"/api/v1/runs/one/tables/correspondence?{query}&rows=10000&columns=unit_a,unit_b,r_natural"
    ).json()
    assert found["matched"] == len(expected) == len(found["rows"])
    assert found["total"] == len(table)
    assert [row["unit_b"] for row in found["rows"]] == expected["unit_b"].tolist()
    np.testing.assert_allclose([row["r_natural"] for row in found["rows"]], expected["r_natural"])


@pytest.fixture
def planted(tmp_path):
    """A run with one small table whose rows are known, gaps and an odd name among them."""
    (tmp_path / "run").mkdir()
    rows = pd.DataFrame(
        {"v": [0.5, None, 0.25, 0.75], 'odd "name': ["b", "a", None, "a"], "on": [True, False, True, True]}
    )
    rows.to_parquet(tmp_path / "run" / "planted.parquet")
    return SimpleNamespace(path=tmp_path / "run", tables=["planted"])


@pytest.mark.parametrize(
    ("parameters", "places"),
    [
        ([("f.v", "0.25..0.5")], [0, 2]),
        ([("f.v", ">0.25"), ("f.on", "true")], [0, 3]),
        ([("f.v", "<=0.25")], [2]),
        ([("sort", "v")], [2, 0, 3, 1]),
        ([("sort", "-v")], [3, 0, 2, 1]),
        ([("sort", 'odd "name,-v')], [3, 1, 0, 2]),
        ([('f.odd "name', "empty")], [2]),
        ([('f.odd "name', "!=a")], [0]),
        ([("q", "A")], [1, 3]),
        ([("rows", "3"), ("page", "2")], [3]),
    ],
)  # fmt: skip
def test_ends_gaps_and_names_of_a_known_table(planted, parameters, places):
    values = [0.5, None, 0.25, 0.75]
    found = tables.select(planted, "planted", tables.parse_query([*parameters, ("columns", "v")]))
    assert [row[0] for row in found.values] == [values[place] for place in places]
    exported = b"".join(tables.export(planted, "planted", tables.parse_query(parameters), "json").chunks)
    assert len(json.loads(exported)) == found.matched


def test_order_and_pages_are_those_of_pandas(client, run):
    table = run.correspondence.sort_values(["verdict", "r_natural"], ascending=[True, False], kind="stable")
    pages = [
        client.get(f"/api/v1/runs/one/tables/correspondence?sort=verdict,-r_natural&rows=7&page={n}").json()
        for n in (1, 2, 3)
    ]
    found = [row["unit_a"] for page in pages for row in page["rows"]]
    assert found == table["unit_a"].head(21).tolist()
    assert pages[0]["pages"] == -(-len(table) // 7)


def test_the_screen_and_the_api_agree(client):
    for table in ("correspondence", "similarity", "units", "families"):
        query = "sort=-depth_a&rows=25" if table == "similarity" else "rows=25"
        said = Page(shown(client, f"/runs/one/tables/{table}?{query}"))
        names = [a["title"] and a for t, a in said.elements if t == "a" and a.get("class") == "sort"]
        columns = [a["href"].split("sort=")[1].split("&")[0].lstrip("-") for a in names]
        api = client.get(f"/api/v1/runs/one/tables/{table}?{query}&columns={','.join(columns)}").json()
        expected = [[brief(row[name]) for name in columns] for row in api["rows"]]
        assert rows_of(shown(client, f"/runs/one/tables/{table}?{query}")) == expected
        assert f"of {api['matched']}" in said.text


def test_other_pages_and_the_api_agree(client, matched):
    a, b = matched
    for address in (
        unit_url(*a, "one"),
        f"/compare?a={quote(a[0])}&b={quote(b[0])}&run=one&family=curve",
        "/runs/one",
        f"/models/{a[0]}/taps/{a[1]}?run=one",
    ):
        text, api = Page(shown(client, address)).text, client.get(f"/api/v1{address}").json()
        if "matches" in api:
            for match in [match for match in api["matches"] if match["family"] == "curve"][:16]:
                assert f"{match['r_natural']:.2f}" in text
        for finding in api.get("findings", []):
            assert finding["text"] in text
        for unit in api["units"] if isinstance(api.get("units"), list) else []:
            if unit["best"]:
                assert f"{unit['best']['r_natural']:.2f}" in text


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
def test_a_download_holds_all_rows_that_fit(client, run, form):
    answer = client.get(f"/runs/one/tables/units?f.detector=true&sort=-peak_sigma&format={form}&rows=5")
    read = {
        "csv": lambda c: pd.read_csv(io.BytesIO(c), keep_default_na=False), "json": lambda c: pd.DataFrame(json.loads(c)),
        "parquet": lambda c: pd.read_parquet(io.BytesIO(c)),
        "arrow": lambda c: __import__("pyarrow").ipc.open_stream(io.BytesIO(c)).read_all().to_pandas(),
    }[form](answer.content)  # fmt: skip
    units = run.table("units")  # as it lies in the run: `run.units` has what other tables say of units beside it
    expected = units[units["detector"]].sort_values("peak_sigma", ascending=False, kind="stable")
    assert list(read.columns) == list(units.columns)
    assert read["unit"].tolist() == expected["unit"].tolist() and len(read) > 0
    np.testing.assert_array_equal(read["peak_sigma"].astype(float), expected["peak_sigma"])
    lists = [json.loads(cell) if isinstance(cell, str) else cell for cell in read["tuning_sigma"]]
    np.testing.assert_array_equal(np.stack(lists), np.stack(expected["tuning_sigma"].tolist()))
    assert "attachment" in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("f.r_natural=much", 400, "filter of 'r_natural' is 'much', expected a number, a range"),
        ("f.r_naturl=1", 400, "has no column 'r_naturl'; did you mean 'r_natural'?"),
        ("f.detector_a=perhaps", 400, "expected true, false"),
        ("sort=nothing", 400, "has no column 'nothing'"),
        ("page=0", 400, "parameter 'page' is '0', expected a whole number from 1"),
        ("rows=1000000", 400, "parameter 'rows'"),
        ("where=r_natural:like:1", 400, "has no operator"),
        ('f.r_natural"%20OR%201=1', 400, "has no column"),
        ("sort=r_natural%3B%20DROP%20TABLE", 400, "has no column"),
        ("format=exe", 400, "unknown format 'exe'"),
        ("f.unit_a=" + "9" * 3000, 400, "has 3000 characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_sentence(client, query, status, sentence):
    answer = client.get(f"/runs/one/tables/correspondence?{query}")
    assert answer.status_code == status
    said = Page(answer.text).text
    assert sentence in said and "Traceback" not in said


def test_queries_read_nothing_but_runs(client, tmp_path):
    outside = tmp_path / "secret.csv"
    outside.write_text("a\n1\n")
    cursor = tables.reader(client.app.state.settings.runs).cursor()
    for statement in (
        f"SELECT * FROM read_csv('{outside}')",
        f"COPY (SELECT 1) TO '{outside}'",
        "INSTALL httpfs",
        "SET threads = 4",
    ):
        with pytest.raises(duckdb.Error):
            cursor.execute(statement)
    assert outside.read_text() == "a\n1\n"


def test_a_table_of_another_run_is_no_path(client, run):
    for name in ("../run", "..%2Fone%2Funits", "/etc/passwd"):
        assert client.get(f"/runs/one/tables/{name}").status_code == 404
    with pytest.raises(MissingError, match=r"has no table '\.\./units'"):
        tables.select(run, "../units", tables.Query())


# ---- links and markup


def crawled(client, start, most):
    """Every page that is reached from some, one of each kind of address, and what it is made of."""
    found, waiting, kinds = {}, list(start), {}
    while waiting and len(found) < most:
        address = waiting.pop(0)
        kind = "".join(c for c in address.split("?")[0] if not c.isdigit())[:60] + "?".join(
            sorted(p.split("=")[0] for p in address.partition("?")[2].split("&"))
        )
        if address in found or kinds.get(kind, 0) >= 2 or address.startswith("/api/"):
            continue
        kinds[kind] = kinds.get(kind, 0) + 1
        answer = client.get(address)
        found[address] = answer
        if "text/html" in answer.headers.get("content-type", "") and "report.html" not in address:
            waiting += [a.split("#")[0].replace("&amp;", "&") for a in Page(answer.text).addresses()]
    return found


def test_every_link_leads_somewhere_and_no_page_brings_its_own_script(client, matched):
    start = [
        "/",
        "/runs/hostile",
        "/runs/hostile/similarity",
        "/runs/hostile/atlas",
        "/runs/hostile/tables/correspondence",
        f"/models/{quote(EVIL)}",
        unit_url(*matched[0], "hostile"),
    ]
    found = crawled(client, start, 150)
    bad = {address: answer.status_code for address, answer in found.items() if answer.status_code not in (200, 303)}
    # Of a network that no card describes there are no pictures; its pages say so.
    assert all("hostile" in address or quote(EVIL)[:12] in address for address in bad), bad
    assert len(found) > 40
    for address, answer in found.items():
        if "text/html" not in answer.headers.get("content-type", "") or "report.html" in address:
            continue
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        for tag, attributes in Page(answer.text).elements:
            assert tag not in ("style", "iframe", "object", "base"), address
            assert not [name for name in attributes if name.startswith("on") or name == "style"], address
            if tag == "script":
                assert attributes["src"].startswith(("/assets/", "/static/htmx-")), address
            if tag == "img":
                assert attributes["src"] != "x", address


def test_markup_for_names_is_shown_as_text(client, matched):
    model = quote(EVIL, safe="")
    tap = next(t for m, t, _ in open_run(client.app.state.settings.runs / "hostile").trained_keys if m == EVIL)
    for address in ("/", "/runs/hostile", "/runs/hostile/similarity", "/runs/hostile/figures", f"/compare?a={model}&b={quote(matched[0][0])}&run=hostile",
                    f"/models/{model}", f"/models/{model}/taps/{quote(tap, safe='')}", f"/search?q={model}", "/runs/hostile/tables/similarity"):  # fmt: skip
        text = shown(client, address)
        assert EVIL not in text, address
        assert "alert(1)" in Page(text).text or "alert(1)" in json.dumps([a for _, a in Page(text).elements]), address


@pytest.mark.draws
def test_figures_come_in_every_format_and_width(client, run):
    stem = next(stem for stem in run.record["figures"] if stem.startswith("detectors_against_depth"))
    address = f"/runs/one/figures/{stem}"
    stored = (run.path / "figures" / f"{stem}.png").read_bytes()
    assert client.get(address).content == client.get(f"{address}?width=183").content == stored
    for width, wide_mm in (("single", 89), ("60", 60)):
        svg = client.get(f"{address}?format=svg&width={width}").text
        assert float(re.search(r'<svg[^>]* width="([0-9.]+)pt"', svg)[1]) / 72 * 25.4 == pytest.approx(wide_mm, abs=0.5)
    for width in ("59", "401", "1e2", "-80", "\u0669\u0669", "", "9" * 5000):
        answer = client.get(f"/api/v1{address}", params={"width": width})
        assert answer.status_code == 400 and "expected double (183 mm) or single (89 mm), or whole mm from 60 to 400" in answer.json()["error"]  # fmt: skip
    numbers = pd.read_csv(io.BytesIO(client.get(f"{address}?format=csv").content))
    expected = run.families[run.families["family"] == stem.split("__")[1]]
    np.testing.assert_allclose(sorted(numbers["share"]), sorted(expected["share"]))
    assert "attachment" in client.get(f"{address}?download=true").headers["content-disposition"]
    assert "no format 'exe'" in client.get(f"{address}?format=exe").text.replace("&#39;", "'")


# ---- units


def test_units_of_untrained_twins_do_not_lead_to_trained_ones(client, run):
    page = Page(shown(client, "/runs/one/tables/units?f.seed=-1&rows=5"))
    twins = Page(shown(client, "/runs/one/tables/units?f.seed=!%3D-1&rows=5"))
    links = [[a for t, a in of.elements if t == "a" and a.get("class") == "unit"] for of in (page, twins)]
    assert len(links[0]) == 5 and not links[1]


def test_a_unit_says_what_its_static_page_says(client, run, matched):
    from universality.report.pages import Book

    for unit in matched:
        found = client.get(f"/api/v1{unit_url(*unit, 'one')}").json()
        static, pictures = Book(run).page(unit)
        assert [f["detector"] for f in found["families"]] == [f["detector"] for f in static["families"]]
        assert [e["picture"] for e in found["examples"]] == [e["picture"] for e in static["examples"]]
        assert [m["partner"] for m in found["matches"]] == [m["partner"] for m in static["matches"]]
        picture = client.get(unit_url(*unit, "one", "examples.webp"))
        from PIL import Image

        with Image.open(io.BytesIO(picture.content)) as image:
            assert image.size == pictures[".webp"].shape[1::-1]
        assert [[of["image"] for of in case["examples"]] for case in found["case_sheet"]] == [
            [of["image"] for of in case["examples"]] for case in static["case_sheet"]
        ]
        sheet = client.get(unit_url(*unit, "one", "cases.webp"))
        assert sheet.status_code == (200 if static["case_sheet"] else 404)


def test_a_unit_of_a_run_that_compared_layers_only_says_that(client, matched, monkeypatch):
    model, tap, unit = matched[0]
    has = Run.has
    monkeypatch.setattr(Run, "has", lambda self, *names: "correspondence" not in names and has(self, *names))
    for run in ("one", ""):
        assert "compared layers only" in shown(client, unit_url(model, tap, unit, run))


def test_a_unit_is_found_elsewhere_as_by_hand(client, run, matched):
    (model, tap, unit), other = matched[0], matched[1]
    rows = client.app.state.catalogue.elsewhere(model, tap, unit, "one")
    own, layer = run.gallery.layer(model, tap), run.gallery.layer(*other[:2])
    row = next(row for row in rows if (row["model"], row["tap"]) == other[:2])
    r = [
        [
            np.corrcoef(own.natural[own.fold == f, unit], layer.natural[own.fold == f, u])[0, 1]
            if layer.live[u]
            else -2
            for u in range(layer.natural.shape[1])
        ]
        for f in (0, 1)
    ]
    best = int(np.argmax(r[0]))
    assert row["unit"] == best
    assert row["r"] == pytest.approx(r[1][best])
    assert rows == sorted(rows, key=lambda row: -row["r"]) and all(row["model"] != model for row in rows)
    text = Page(shown(client, unit_url(model, tap, unit, "one", "elsewhere"))).text
    assert f"{row['r']:.2f}" in text and f"{row['r_haar']:.2f}" in text


def test_what_is_not_there_is_one_sentence(client, matched):
    model, tap, _ = matched[0]
    for address, sentence in (
        (unit_url(model, tap, 99_999), "has no unit 99999"), (unit_url(model, "none", 0), "there is no tap 'none'"), ("/runs/none", "there is no run 'none'"),
        ("/models/none", "there is no network 'none'"), ("/runs/one/similarity?measure=none", "no measure 'none'"), ("/runs/one/figures/none", "no figure 'none'"),
        ("/jobs/none", "there is no job 'none'"), ("/lists/99", "there is no list 99"), ("/runs/one/atlas?family=none", "no family 'none'"),
    ):  # fmt: skip
        answer = client.get(address)
        assert answer.status_code in (400, 404), address
        assert sentence in Page(answer.text).text, (address, answer.text[-500:])
    assert "No finished run compared" in Page(shown(client, f"/compare?a={model}&b=timm/resnet18")).text


def test_lists_and_notes_are_kept_exported_and_ones_own(client, matched):
    unit = matched[0]
    address = unit_url(*unit)
    assert sent(client, f"{address}/lists", name="good <b>ones</b>").status_code == 303
    sent(client, f"{unit_url(*matched[1])}/lists", name="good <b>ones</b>")
    sent(client, f"{address}/notes", text="looks like <i>arcs</i>")
    page = shown(client, address)
    assert "looks like &lt;i&gt;arcs&lt;/i&gt;" in page and "good &lt;b&gt;ones&lt;/b&gt;" in page
    number = next(
        a["href"].split("/")[-1] for t, a in Page(page).elements if t == "a" and a["href"].startswith("/lists/")
    )
    listed = client.get(f"/lists/{number}?format=json").json()
    assert sorted((u["model"], u["tap"], u["unit"]) for u in listed["units"]) == sorted(matched)
    table = pd.read_csv(io.BytesIO(client.get(f"/lists/{number}?format=csv").content))
    assert table[["model", "tap", "unit"]].to_numpy().tolist() == [
        [u["model"], u["tap"], u["unit"]] for u in listed["units"]
    ]
    sent(client, f"{address}/lists", number=number)  # a second time takes it off
    assert [u["unit"] for u in client.get(f"/lists/{number}?format=json").json()["units"]] == [matched[1][2]]
    note = next(a["action"] for t, a in Page(page).elements if t == "form" and "/notes/" in a.get("action", ""))
    assert client.post(note, data={"csrf": "wrong"}, headers=FORM).status_code == 403
    assert sent(client, note).status_code == 303
    assert "looks like" not in shown(client, address)
    assert sent(client, f"/lists/{number}/delete").status_code == 303
    assert client.get(f"/lists/{number}").status_code == 404


def test_what_is_somebody_elses_is_not_changed(client, matched, monkeypatch):
    address = unit_url(*matched[0])
    sent(client, f"{address}/lists", name="mine")
    number = client.get("/lists").text.split('href="/lists/')[1].split('"')[0]
    from universality.service import guard

    monkeypatch.setattr(guard, "LOCAL", Principal("other", "submit"))
    for path, fields in ((f"{address}/lists", {"number": number}), (f"/lists/{number}/delete", {})):
        assert sent(client, path, **fields).status_code == 403
    monkeypatch.setattr(guard, "LOCAL", Principal("reader", "read"))
    assert sent(client, "/lists", name="none").status_code == 403


# ---- pairs of networks


def test_the_map_shows_every_similarity_in_both_halves(run):
    measure = similarities.measures(run)[0]
    every = similarities.all_layers(run, measure, "value")
    drawn = diagrams.heatmap(every, "one")
    rows = run.similarity[run.similarity["measure"] == measure]
    assert len(drawn["cells"]) == 2 * len(rows)
    scale, side = diagrams.scale_of(rows["value"].tolist()), drawn["side"]
    places = {(layer["model"], layer["tap"]): n for n, layer in enumerate(every["layers"])}
    fills = {(round(c["x"] / side), round(c["y"] / side)): c["fill"] for c in drawn["cells"]}
    for row in rows.itertuples():
        a, b = places[row.model_a, row.tap_a], places[row.model_b, row.tap_b]
        expected = diagrams.colours()[diagrams.level_of(row.value, scale)]
        assert fills[b, a] == fills[a, b] == expected


def test_a_large_map_has_a_link_for_every_pair_of_networks(run, monkeypatch):
    monkeypatch.setattr(diagrams, "MOST_CELLS", 0)
    drawn = diagrams.heatmap(similarities.all_layers(run, similarities.measures(run)[0], "value"), "one")
    assert not drawn["cells"] and len(drawn["blocks"]) == 2 * len(run.job.compared())
    assert sum(path.count("M") for _, path in drawn["paths"]) == 2 * int(
        (run.similarity["measure"] == similarities.measures(run)[0]).sum()
    )


def test_compared_networks_are_those_of_the_tables(client, run):
    a, b = run.job.compared()[0]
    found = client.get(f"/api/v1/compare?a={a}&b={b}&run=one").json()
    for measure in found["similarity"]:
        matrix = run.matrix(measure, a, b)
        np.testing.assert_allclose(np.array(found["similarity"][measure]["value"], float), matrix.values)
        order = matrix.values if matrix.attrs["direction"] == "similarity" else -matrix.values
        for place, row in enumerate(found["orders"]):
            if not np.isnan(order[place]).all():
                assert order[place][matrix["tap_b"].values.tolist().index(row["nearest"][measure])] == np.nanmax(
                    order[place]
                )
    back = client.get(f"/api/v1/compare?a={b}&b={a}&run=one").json()
    assert {k: v for k, v in back.items() if k != "runs"} == {k: v for k, v in found.items() if k != "runs"}


def test_the_nearest_tap_is_the_most_alike_by_similarities_and_distances():
    values = {
        "cka_linear_debiased": ("similarity", [[0.9, 0.2], [np.nan, 0.4]]),
        "procrustes_orthogonal": ("distance", [[0.9, 0.2], [0.1, 0.4]]),
    }
    rows = pd.DataFrame([
        {"model_a": "m/a", "model_b": "m/b", "tap_a": f"a{i}", "tap_b": f"b{j}", "depth_a": (i + 1) / 2, "depth_b": (j + 1) / 2, "measure": measure,
         "direction": direction, **dict.fromkeys(STATES, grid[i][j]), "n": 9, "p": 9, "q": 9, "reason": ""}
        for measure, (direction, grid) in values.items() for i in (0, 1) for j in (0, 1)
    ])  # fmt: skip
    run = Run(Path("planted"), {"tables": {"similarity.parquet": ""}}, tables={"similarity": rows})
    found = similarities.nearest_taps(run, "m/a", "m/b")
    assert found == [
        {"tap": "a0", "nearest": {"cka_linear_debiased": "b0", "procrustes_orthogonal": "b1"}, "agree": False},
        {"tap": "a1", "nearest": {"cka_linear_debiased": "b1", "procrustes_orthogonal": "b0"}, "agree": False},
    ]


def test_ribbons_are_as_wide_as_their_numbers():
    rows = [
        {"tap_a": a, "tap_b": b, "n_met": n, "n_same_feature": n // 2, "n_met_haar": 0.5, "n_same_feature_haar": 0.0}
        for a, b, n in (("p", "x", 4), ("p", "y", 2), ("q", "y", 6))
    ]
    drawn = diagrams.sankey(rows, "", 12)
    heights = {(n["side"], n["text"]): n["height"] for n in drawn["nodes"]}
    per = heights["a", "q"] / 6
    for node, n in ((("a", "p"), 6), (("b", "x"), 4), (("b", "y"), 8)):
        assert heights[node] == pytest.approx(n * per, abs=0.11)
    assert drawn["total"] == "12"
    assert diagrams.sankey(rows, "_haar", 12)["total"] == "1.5"  # a mean over bases is not rounded away


# ---- jobs


def leaves(model, prefix=""):
    for name, field in model.model_fields.items():
        inner = next(
            (
                a
                for a in (field.annotation, *getattr(field.annotation, "__args__", ()))
                if isinstance(a, type) and issubclass(a, Spec)
            ),
            None,
        )
        if inner is not None and name != "models":
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_form_has_every_value_of_a_job():
    """A field that is added to job files is in the form too, or is left out on purpose."""
    asked = {field.name for field in job_form.fields()}
    for name in leaves(Job):
        left_out = any(name == own or name.startswith(f"{own}.") for own in job_form._OWN | job_form._NEVER)
        assert (name in asked) != left_out, name


def test_a_form_becomes_the_job_that_it_says():
    form = [
        ("name", "mine"), ("question", "why?"), ("boxes", "1"), ("models", "pocket/vgg-focus-s0"), ("taps:pocket/vgg-focus-s0", "features.4"),
        ("models", "pocket/alexnet-focus-s0"), ("pairs", "pocket/vgg-focus-s0, pocket/alexnet-focus-s0\n"), ("families", "curve"),
        ("measures", "cka_linear_debiased"), ("matching", "hungarian"), ("matching", "mutual_nearest"), ("stages", "families"), ("stages", "similarity"),
        ("extraction.reduction", "center"), ("nulls.shuffles", "5"), ("nulls.untrained_seeds", "0, 1"), ("stimuli.natural.crops", "64"), ("stimuli.gratings.contrast", "0.3"),
        ("comparison.permutations", "199"), ("comparison.bootstraps", ""),
    ]  # fmt: skip
    values = job_form.values_of(form, ("families", "similarity", "atlas"))
    assert "permutations" not in values["comparison"]
    job = job_of(values, "the job")
    assert [(entry.id, entry.taps) for entry in job.models] == [
        ("pocket/vgg-focus-s0", ("features.4",)),
        ("pocket/alexnet-focus-s0", None),
    ]
    assert job.nulls.shuffles == 5 and job.nulls.untrained_seeds == (0, 1) and job.stimuli.gratings.contrast == 0.3
    assert job.comparison.families == ("curve",) and job.stages.without == ("atlas",)
    import tomllib

    assert job_of(tomllib.loads(job_form.toml_of(values)), "the job") == job


@pytest.mark.parametrize(
    ("field", "sentence"),
    [(("nulls.shuffles", "many"), "'nulls.shuffles' is 'many', expected a whole number"), (("pairs", "a b c"), "expected two networks"), (("seed", "x"), "'seed' is 'x'"), (("question", "x" * 5000), "has 5000 characters")],
)  # fmt: skip
def test_a_form_with_a_mistake_is_one_sentence(field, sentence):
    with pytest.raises(JobError, match=sentence.replace("(", r"\(")):
        job_form.values_of([field], ())


def test_a_plan_stands_before_the_button(client):
    answer = sent(client, "/jobs/plan", toml=SMALL)
    said = Page(answer.text).text
    assert answer.status_code == 200 and "Submit this job" in said and "disk" in said and "pocket/vgg-focus-s0" in said
    wrong = Page(sent(client, "/jobs/plan", toml=SMALL.replace("center", "centre")).text).text
    assert "extraction.reduction" in wrong and "Submit this job" not in wrong


def test_a_job_shows_its_stages_its_log_and_what_can_be_done(client):
    queue, database = client.app.state.queue, client.app.state.database
    answer = sent(client, "/jobs", toml=SMALL)
    assert answer.status_code == 303
    address = answer.headers["location"]
    job = address.split("/")[-1]
    text = shown(client, address)
    assert "waiting" in Page(text).text and f'hx-get="{address}/state"' in text and "Cancel" in text
    claim = queue.claim("tester")
    with database.session() as session:
        session.add(
            EventRow(
                job=job,
                kind="stage",
                data=json.dumps({"description": "similarity <b>", "done": 2, "total": 8, "seconds": 10.0}),
            )
        )
        planned = {"seconds": {"start": 0.0, "similarity <b>": 1200.0, "figures and report": 300.0}}
        session.add(EventRow(job=job, kind="plan", at=time.time(), data=json.dumps(planned)))
        session.add(EventRow(job=job, kind="say", data=json.dumps({"text": "read 3 stores"})))
    state = Page(shown(client, f"{address}/state")).text
    assert client.get(f"/api/v1{address}/progress").json()["seconds_left"] == pytest.approx(400, rel=0.05)
    assert "2 of 8" in state and "about 7 min left" in state and "read 3 stores" in state and "similarity <b>" in state
    assert sent(client, f"{address}/cancel").status_code == 303
    assert "being cancelled" in Page(shown(client, address)).text
    from universality.service.states import Action

    queue.end("tester", claim, Action.FAIL, "the disk is full")
    ended = client.get(f"{address}/state")
    assert ended.status_code == 286 and "the disk is full" in Page(ended.text).text  # htmx asks no more
    assert "hx-trigger" not in ended.text and "Try again" in ended.text
    assert sent(client, f"{address}/retry").status_code == 303
    assert queue.get(job).state == "waiting"
    assert SMALL.split('"')[1] in shown(client, "/jobs") and isinstance(queue.get(job), JobRow)
    assert 'name = "small"' in Page(shown(client, f"/jobs/new?of={job}")).text


def job_at(share, pace, stages=4):
    """A job of equally long stages of 100 s each by its plan, at a share of its work, when everything takes `pace` times that long."""
    names = [f"stage {n}" for n in range(stages)]
    done = [{"description": name, "done": round(10 * min(max(share * stages - n, 0), 1)), "total": 10} for n, name in enumerate(names)]  # fmt: skip
    plan = {"at": 50.0, "seconds": dict.fromkeys(names, 100.0) | {"start": 0.0}}
    return {"state": "running", "plan": plan, "stages": done}, 50.0 + share * 100 * stages * pace


@pytest.mark.parametrize("pace", [0.1, 1.0, 5.0])
def test_time_left_of_a_job_is_what_its_plan_holds_at_the_pace_so_far(pace):
    told = [progress.seconds_left(*job_at(share, pace)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    truth = [400 * pace * (1 - share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert told[0] == pytest.approx(400) and told[-1] == 0  # nothing is known at first but the plan
    far = [round(abs(one - true) / true, 9) for one, true in zip(told[:-1], truth[:-1], strict=True)]
    assert far == sorted(far, reverse=True) and far[-1] <= 0.15 * max(1, 1 / pace - 1)  # and ever less wrong


def test_time_left_counts_the_start_and_is_unknown_where_nothing_runs():
    found = {
        "state": "running",
        "plan": {"at": 0.0, "seconds": {"start": 10.0, "families (tasks)": 20.0}},
        "stages": [],
    }
    assert [progress.seconds_left(found, now) for now in (0.0, 4.0, 10.0)] == pytest.approx([30.0, 26.0, 20.0])
    assert progress.seconds_left(found, 60.0) > 20  # a start that hangs is seen
    assert progress.seconds_left(found | {"state": "waiting"}, 4.0) is None
    assert progress.seconds_left(found | {"plan": None}, 4.0) is None


def test_search_finds_by_all_words(client, run, matched):
    model, tap, unit = matched[0]
    hits = client.get(f"/api/v1/search?q={model.split('/')[1]} {tap} {unit}").json()
    first = (hits if isinstance(hits, list) else hits["hits"])[0]
    assert (first["kind"], first["model"], first["tap"], first["unit"]) == ("unit", model, tap, unit)
    text = Page(shown(client, f"/search?q={tap}")).text
    assert tap in text and "tap" in text
    assert "Nothing fits" in Page(shown(client, "/search?q=nosuchthing")).text


def test_wrong_pages_of_tables_raise_in_python_too(run):
    with pytest.raises(RunError, match="no column 'x'"):
        tables.select(run, "units", tables.Query(order=(("x", False),)))


# ---- runs that see layers in another basis


@pytest.fixture(scope="module")
def turned(whole, tmp_path_factory):
    """A service that shows a run in units and one whose job sees the same layers in random directions."""
    with served(whole, tmp_path_factory.mktemp("turned"), hostile=False) as client:
        runs = client.app.state.settings.runs
        shutil.copytree(runs / "one", runs / "other")
        record = json.loads((runs / "other" / "run.json").read_text())
        record["job"]["basis"] = "haar"
        record.pop("digest")
        (runs / "other" / "run.json").write_text(json.dumps(sealed(record)))
        yield client


def test_a_number_of_a_run_in_a_basis_is_a_direction_and_no_unit(turned, whole):
    model, tap, _ = next(iter(whole.trained_keys))
    unit, own = f"/models/{model}/taps/{tap}/units/3", f"/models/{model}/taps/{tap}/bases/haar/directions/3"
    answer = turned.get(f"{unit}?run=other")
    assert (answer.status_code, answer.headers["location"]) == (307, f"{own}?run=other")
    for address in (own, f"{own}?run=other"):
        page = shown(turned, address)
        assert "Direction of haar 3" in page and "in run <a" in page and "Unit 3" not in page
        # Lists and notes are of units.
        assert '<h2 id="lists">' not in page and '<h2 id="lists">' in shown(turned, unit)
        assert {a for a in Page(page).addresses() if "/units/4" in a} == set()
    # Whoever names no run gets the run in units, whichever is newer.
    assert "Unit 3" in shown(turned, unit) and "/runs/one" in shown(turned, unit)
    assert "directions of haar" in shown(turned, f"/models/{model}/taps/{tap}?run=other")
    for said, address in (
        ("sees layers in their units", f"{own}?run=one"),
        ("only in haar, units", own.replace("haar", "sae")),
    ):
        refused = turned.get(address)
        assert refused.status_code == 404 and said in refused.text
    found = turned.get(f"/api/v1{own}").json()
    assert (found["basis"], found["in_run"], found["unit"]) == ("haar", "other", 3)


def test_links_of_a_direction_lead_somewhere(turned, whole):
    model, tap, _ = next(iter(whole.trained_keys))
    page = Page(shown(turned, f"/models/{model}/taps/{tap}/bases/haar/directions/3?run=other"))
    for address in page.addresses():
        answer = turned.get(address, follow_redirects=True)
        assert answer.status_code in (200, 404), address
        assert answer.status_code == 200 or address.endswith(".webp") or ".webp?" in address, address
