"""The HTTP API, in process: jobs, events, tables; and the client of it."""

import io
import json
import shutil
import threading
from types import SimpleNamespace

import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from service_parts import SMALL, client_of, listening, settings, small_job

import universality
from universality.base.errors import JobError, MissingError, RunError, ServiceError
from universality.service.app import create_app
from universality.service.states import Action

API = "/api/v1"
TOML = {"content-type": "application/toml"}


@pytest.fixture(scope="module")
def served(tmp_path_factory, small):
    """A service with the small run."""
    folder = tmp_path_factory.mktemp("service")
    shutil.copytree(small.out, folder / "runs" / "small")
    with client_of(folder) as client:
        yield client


def planned_as(plan):
    """A stand-in for the helper process."""
    return lambda *_, **__: {"taps": 2, "images": 64} | plan


@pytest.fixture
def quick(served, monkeypatch):
    """The service, whose helper plans every job at once."""
    monkeypatch.setattr(served.app.state.helper, "call", planned_as({}))
    return served


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer


def submitted(client, **headers) -> str:
    return ok(client.post(f"{API}/jobs", content=SMALL, headers=TOML | headers), 201).json()["id"]


def test_a_plan_says_time_disk_and_the_smallest_effect_and_begins_nothing(served):
    text = SMALL.replace("families = []", 'families = ["curve"]')
    plan = ok(served.post(f"{API}/jobs/plan", content=text, headers=TOML)).json()
    assert plan["seconds"] > 0 and plan["disk_bytes"]["expected"] > 0 and 0 < plan["smallest_effect"] <= 1
    assert (
        plan["taps"] == 2 and plan["tasks"]["kept"] == 0 and any("power" in sentence for sentence in plan["sentences"])
    )
    assert served.get(f"{API}/jobs").json() == []
    unknown = served.post(f"{API}/jobs/plan", content=text.replace("features.4", "features.5"), headers=TOML)
    assert unknown.status_code == 400 and "has no tap 'features.5'; did you mean" in unknown.json()["error"]


def test_a_job_is_submitted_as_toml_or_json_and_told_as_it_is(quick):
    one = submitted(quick)
    two = ok(quick.post(f"{API}/jobs", json=small_job(name="as_json").plain()), 201).json()
    assert two["name"] == "as_json" and two["state"] == "waiting" and two["owner"] == "local" and two["run"] is None
    assert ok(quick.get(f"{API}/jobs/{one}/spec")).json() == small_job().plain()
    listed = [job["id"] for job in quick.get(f"{API}/jobs").json()]
    assert listed.index(two["id"]) < listed.index(one)
    assert [job["id"] for job in quick.get(f"{API}/jobs", params={"limit": 1}).json()] == [two["id"]]
    for job in (one, two["id"]):
        assert ok(quick.post(f"{API}/jobs/{job}/cancel")).json()["state"] == "cancelled"


def test_a_request_that_is_sent_twice_makes_one_job(quick):
    first, again = (submitted(quick, **{"Idempotency-Key": "once"}) for _ in range(2))
    assert first == again
    quick.post(f"{API}/jobs/{first}/cancel")
    assert ok(quick.post(f"{API}/jobs/{first}/retry")).json()["state"] == "waiting"
    assert "is waiting" in ok(quick.post(f"{API}/jobs/{first}/retry"), 400).json()["error"]
    quick.post(f"{API}/jobs/{first}/cancel")


@pytest.mark.parametrize(
    ("limits", "plan", "sentence"),
    [
        ({"taps": 1}, {}, "the job asks for 2 taps, this service allows 1"),
        ({"models": 1}, {}, "the job has 2 models, this service allows 1"),
        ({"images": 50}, {}, "the job asks for 64 natural images, this service allows 50"),
        ({"images": 70}, {"images": 71}, "the job needs 71 images, this service allows 70"),
        ({"draws": 100}, {}, "the job asks for 199 permutations, this service allows 100"),
        ({"waiting_jobs": 0}, {}, "0 jobs of yours have not ended, at most 0 may wait"),
    ],
)
def test_what_a_job_may_take_is_limited(tmp_path, monkeypatch, limits, plan, sentence):
    with client_of(tmp_path, limits=limits) as client:
        monkeypatch.setattr(client.app.state.helper, "call", planned_as(plan))
        assert sentence in ok(client.post(f"{API}/jobs", content=SMALL, headers=TOML), 413).json()["error"]


def test_the_frames_of_a_jobs_events_are_exactly_these(quick):
    queue, job = quick.app.state.queue, submitted(quick)
    claim = queue.claim("one")
    queue.note(
        "one",
        claim,
        [("say", {"text": "two\nlines"}), ("stage", {"description": "x", "done": 1, "total": 2, "seconds": 0.5})],
    )
    queue.end("one", claim, Action.FINISH)
    ids = [event.id for event in queue.events(job)]
    frames = [
        f'id: {ids[0]}\nevent: state\ndata: {{"state": "waiting"}}\n\n',
        f'id: {ids[1]}\nevent: state\ndata: {{"state": "running"}}\n\n',
        f'id: {ids[2]}\nevent: say\ndata: {{"text": "two\\nlines"}}\n\n',
        f'id: {ids[3]}\nevent: stage\ndata: {{"description": "x", "done": 1, "total": 2, "seconds": 0.5}}\n\n',
        f'id: {ids[4]}\nevent: state\ndata: {{"state": "done"}}\n\n',
        "event: end\ndata: {}\n\n",
    ]
    whole = ok(quick.get(f"{API}/jobs/{job}/events"))
    assert whole.text == "".join(frames)
    assert (
        whole.headers["content-type"].startswith("text/event-stream") and whole.headers["cache-control"] == "no-store"
    )
    for taken in range(len(ids) + 1):
        after = str(ids[taken - 1]) if taken else "0"
        assert quick.get(f"{API}/jobs/{job}/events", headers={"Last-Event-ID": after}).text == "".join(frames[taken:])
        assert quick.get(f"/jobs/{job}/events", params={"after": after}).text == "".join(frames[taken:])
    assert (
        "no id of an event"
        in ok(quick.get(f"{API}/jobs/{job}/events", headers={"Last-Event-ID": "-1"}), 400).json()["error"]
    )


def test_a_stream_goes_on_while_its_job_does(quick):
    queue, job = quick.app.state.queue, submitted(quick)
    claim = queue.claim("one")

    def work():
        for n in range(3):
            queue.note("one", claim, [("say", {"text": str(n)})])
        queue.end("one", claim, Action.FAIL, "the store is gone")

    threading.Timer(0.5, work).start()
    text = quick.get(f"{API}/jobs/{job}/events").text
    assert [f'"{n}"' in text for n in range(3)] == [True] * 3 and text.endswith("event: end\ndata: {}\n\n")
    assert quick.get(f"{API}/jobs/{job}").json()["error"] == "the store is gone"
    progress = quick.get(f"{API}/jobs/{job}/progress").json()
    assert [said["text"] for said in progress["said"]] == ["0", "1", "2"] and progress["state"] == "failed"


def test_a_page_of_a_table_and_its_files_hold_the_same_rows(served, small):
    table = small.run.correspondence
    here = f"{API}/runs/small/tables/units"
    units = small.run.units
    page = ok(
        served.get(
            here, params={"where": "detector:eq:true", "sort": "-unit", "rows": 5, "columns": "model,tap,unit,detector"}
        )
    ).json()
    expected = units[units["detector"]].sort_values("unit", ascending=False, kind="stable")
    assert page["matched"] == len(expected) and page["total"] == len(units)
    assert [row["unit"] for row in page["rows"]] == expected["unit"].head(5).tolist()
    for form, read in {
        "csv": lambda content: pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""]),
        "parquet": lambda content: pq.read_table(io.BytesIO(content)).to_pandas(),
        "arrow": lambda content: pa.ipc.open_stream(content).read_all().to_pandas(),
        "json": lambda content: pd.DataFrame(json.loads(content)),
    }.items():
        answer = ok(
            served.get(
                f"{API}/runs/small/tables/correspondence", params={"format": form, "columns": "unit_a,unit_b,r_natural"}
            )
        )
        found = read(answer.content)
        assert found["unit_a"].tolist() == table["unit_a"].tolist(), form
        assert found["r_natural"].astype(float).tolist() == pytest.approx(table["r_natural"].tolist(), nan_ok=True), (
            form
        )


def test_what_is_not_there_is_said_with_the_nearest_name(served):
    for path, sentence in {
        "runs/smal": "there is no run 'smal'; did you mean 'small'?",
        "runs/small/tables/unit": "has no table 'unit'; did you mean 'units'?",
        "runs/small/files/run.json": "has no file 'run.json'",
        "jobs/nothing": "there is no job 'nothing'",
        "nowhere": "there is nothing at /api/v1/nowhere",
    }.items():
        assert sentence in ok(served.get(f"{API}/{path}"), 404).json()["error"]
    assert (
        "has no column 'unti'; did you mean 'unit'?"
        in served.get(f"{API}/runs/small/tables/units?sort=unti").json()["error"]
    )


def test_the_description_of_the_api_names_what_there_is(served):
    described = ok(served.get(f"{API}/openapi.json")).json()
    assert {
        f"{API}/jobs",
        f"{API}/jobs/plan",
        f"{API}/jobs/{{job}}/events",
        f"{API}/runs/{{run}}/tables/{{table}}",
        f"{API}/models",
    } <= set(described["paths"])
    assert all(path.startswith(API) for path in described["paths"])
    assert all(operation.get("summary") for path in described["paths"].values() for operation in path.values())


@pytest.fixture(scope="module")
def live(tmp_path_factory, small):
    """A service with the small run, at a port of this machine; its helper plans every job at once."""
    folder = tmp_path_factory.mktemp("live")
    shutil.copytree(small.out, folder / "runs" / "small")
    app = create_app(settings(folder))
    app.state.helper.call = planned_as({})
    with listening(app) as port:
        yield SimpleNamespace(app=app, url=f"http://127.0.0.1:{port}")
    app.state.database.close()


@pytest.fixture
def client(live, monkeypatch):
    monkeypatch.setattr("universality.service.client.time.sleep", lambda _: None)
    with universality.Client(live.url) as made:
        yield made


def test_a_run_of_the_client_is_the_local_run(client, small):
    run = client.open("small")
    for name in small.run.tables:
        pd.testing.assert_frame_equal(run.table(name), small.run.table(name))
    assert run.job == small.run.job and universality.findings(run) == universality.findings(small.run)
    with pytest.raises(RunError, match="lies with a service, which gives its tables and figures but no activations"):
        run.activations("package/efficientnet_lite1", "blocks.2.1.bn2")
    with pytest.raises(RunError, match="has no table 'atlas'"):
        run.table("atlas")


def test_a_table_that_changed_on_its_way_is_refused(client, monkeypatch):
    run = client.open("small")
    monkeypatch.setattr(client, "file", lambda *_: b"something else")
    with pytest.raises(RunError, match="came with another checksum than its record states"):
        run.table("units")


def test_the_client_submits_watches_and_says_why_a_job_failed(live, client, tmp_path):
    job = tmp_path / "job.toml"
    job.write_text(SMALL)
    queue, steps = live.app.state.queue, []
    for given in (str(job), job, SMALL, small_job(), small_job().plain()):
        identity = client.submit(given)
        assert client.job(identity)["name"] == "small"
        claim = queue.claim("one")
        queue.note("one", claim, [("stage", {"description": "x", "done": 1, "total": 2, "seconds": 0.5})])
        queue.end("one", claim, Action.FAIL, "the store is gone")
        with pytest.raises(JobError, match=f"job '{identity}' failed: the store is gone"):
            client.wait(identity, progress=lambda *step: steps.append(step))
    assert steps == [(1, 2)] * 5
    with pytest.raises(MissingError, match="the service refused: there is no job 'nothing'"):
        client.job("nothing")
    with pytest.raises(JobError, match="cannot be read"):
        client.submit("no-such-file.toml")


def test_the_client_tries_again_and_gives_up_in_one_sentence(client, monkeypatch):
    answers = [httpx.ConnectError("refused")] * 3 + [httpx.Response(503), httpx.Response(200, json=[])]

    def request(*_, **__):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(client._http, "request", request)
    assert client.jobs() == []
    answers += [httpx.ConnectError("refused")] * 20
    with pytest.raises(
        ServiceError, match=f"the service at '{client.url}' does not answer \\(ConnectError\\); start it"
    ):
        client.jobs()
