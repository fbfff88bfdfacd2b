"""A service from Python: submit jobs, watch them, and read runs as if they had been made here."""

from __future__ import annotations

import hashlib
import io
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import xarray as xr

from universality.base.errors import JobError, MissingError, RunError, ServiceError
from universality.base.progress import Progress, Reporter, reporter_for
from universality.runs.job import Job
from universality.runs.run import Run, with_lists

try:
    import httpx
except ModuleNotFoundError:
    raise ServiceError(
        "the client of a service needs the package httpx, which is not installed; pip install 'universality[serve]'"
    ) from None

_TRIES, _PAUSE_S = 8, 0.5
_LATER = (429, 502, 503, 504)
"""Answers of a service, or of a proxy before it, that will be another one soon."""
JobText = str | Path | Job | Mapping[str, Any]


class Client:
    """A service at an address.

    Parameters
    ----------
    url : str
        Such as ``http://127.0.0.1:8000``.
    token : str, optional
        Needed unless the service listens on this machine only.

    Examples
    --------
    >>> client = universality.Client("http://127.0.0.1:8000")  # doctest: +SKIP
    >>> run = client.run("analyses/quickstart/job.toml")  # doctest: +SKIP
    >>> run.correspondence.query("verdict == 'same_feature'")  # doctest: +SKIP
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8000", token: str | None = None, *, timeout_s: float = 60.0
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1/", headers=headers, timeout=timeout_s, follow_redirects=False
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def plan(self, job: JobText) -> dict[str, Any]:
        """Return what a job would take: seconds, bytes of disk and memory, the smallest correlation that it can confirm."""
        return dict(self._sent("POST", "jobs/plan", **_body(job)))

    def submit(self, job: JobText) -> str:
        """Submit a job and return its id. Tried again, if the connection breaks, without a second job."""
        same = uuid.uuid4().hex
        sent = _body(job)
        sent["headers"] |= {"Idempotency-Key": same}
        return str(self._sent("POST", "jobs", **sent)["id"])

    def job(self, job: str) -> dict[str, Any]:
        """Return a job: its state, its times, why it failed."""
        return dict(self._sent("GET", f"jobs/{job}"))

    def progress(self, job: str) -> dict[str, Any]:
        """Return a job with its stages, what it said, and ``seconds_left``: about how long it will still take, s; None if it does not run."""
        return dict(self._sent("GET", f"jobs/{job}/progress"))

    def jobs(self, limit: int = 50) -> list[dict[str, Any]]:
        """Return jobs, the newest first."""
        return list(self._sent("GET", "jobs", params={"limit": limit}))

    def cancel(self, job: str) -> dict[str, Any]:
        """Cancel a job."""
        return dict(self._sent("POST", f"jobs/{job}/cancel"))

    def retry(self, job: str) -> dict[str, Any]:
        """Begin a job again that failed or was cancelled."""
        return dict(self._sent("POST", f"jobs/{job}/retry"))

    def events(self, job: str, after: int = 0) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield what happens to a job, as (id, kind, data), until it has ended; a broken connection is taken up where it broke."""
        tries = 0
        while True:
            try:
                with self._http.stream("GET", f"jobs/{job}/events", headers={"Last-Event-ID": str(after)}) as answer:
                    if answer.status_code in _LATER and tries < _TRIES:
                        time.sleep(_PAUSE_S * 2 ** min(tries, 4))
                        tries += 1
                        continue
                    if answer.status_code != 200:
                        answer.read()
                        _refuse(answer)
                    for identity, kind, data in _frames(answer.iter_lines()):
                        if kind == "end":
                            return
                        after, tries = identity, 0
                        yield identity, kind, data
            except httpx.TransportError as cause:
                tries = self._pause(tries, cause)

    def wait(self, job: str, progress: Progress = False, reporter: Reporter | None = None) -> RemoteRun:
        """Wait for a job and return its run.

        Raises
        ------
        JobError
            It failed, with its sentence, or was cancelled.
        """
        told = reporter or reporter_for(progress)
        stages: dict[str, tuple[Any, int]] = {}
        for _, kind, data in self.events(job):
            if kind == "say":
                told.say(data["text"])
            elif kind == "stage":
                name, done = data["description"], data["done"]
                advance, before = stages.get(name) or (told.track(name, data["total"]), 0)
                if done > before:
                    advance(done - before)
                stages[name] = (advance, max(done, before))
        ended = self.job(job)
        if ended["state"] != "done":
            raise JobError(
                f"job '{job}' {'was cancelled' if ended['state'] == 'cancelled' else 'failed: ' + str(ended['error'])}"
            )
        return self.open(ended["run"])

    def run(self, job: JobText, progress: Progress = False, reporter: Reporter | None = None) -> RemoteRun:
        """Submit a job, wait for it and return its run: `universality.run`, computed by the service.

        Parameters
        ----------
        job : path of a job file, its text, a Job, or plain values
        progress, reporter : as for `universality.run`
        """
        return self.wait(self.submit(job), progress, reporter)

    def runs(self) -> list[dict[str, Any]]:
        """Return the finished runs, the newest first."""
        return list(self._sent("GET", "runs"))

    def open(self, name: str) -> RemoteRun:
        """Return a finished run of the service; its tables are fetched when they are first asked for."""
        return RemoteRun(self, name, dict(self._sent("GET", f"runs/{name}/record")))

    def unit(self, model: str, tap: str, unit: int, run: str | None = None, basis: str = "") -> dict[str, Any]:
        """Return what the page of a unit shows, or that of a direction of a basis (``sae``)."""
        of = f"bases/{basis}/directions/{unit}" if basis else f"units/{unit}"
        return dict(self._sent("GET", f"models/{model}/taps/{tap}/{of}", params={"run": run} if run else {}))

    def file(self, run: str, name: str) -> bytes:
        """Return a file of a run's directory."""
        return self._answer("GET", f"runs/{run}/files/{name}").content

    def _sent(self, method: str, path: str, **how: Any) -> Any:
        return self._answer(method, path, **how).json()

    def _answer(self, method: str, path: str, **how: Any) -> httpx.Response:
        tries = 0
        while True:
            try:
                answer = self._http.request(method, path, **how)
            except httpx.TransportError as cause:
                tries = self._pause(tries, cause)
                continue
            if answer.status_code in _LATER and tries < _TRIES:
                tries += 1
                time.sleep(min(int(answer.headers.get("Retry-After", "1")), 60))
                continue
            if answer.status_code >= 400:
                _refuse(answer)
            return answer

    def _pause(self, tries: int, cause: httpx.TransportError) -> int:
        if tries >= _TRIES:
            raise ServiceError(
                f"the service at '{self.url}' does not answer ({type(cause).__name__}); start it, or correct the address"
            ) from None
        time.sleep(_PAUSE_S * 2 ** min(tries, 4))
        return tries + 1


class RemoteRun(Run):
    """A finished run of a service: its tables are those of a local run, checked against the checksums of its record."""

    def __init__(self, client: Client, name: str, record: dict[str, Any]) -> None:
        super().__init__(Path(name), record)
        self._client = client

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the run's tables, fetched when it is first asked for; raise `RunError` as a local run does."""
        if self.has(name) and name not in self._tables:
            content = self._client.file(self.path.name, f"{name}.parquet")
            if hashlib.sha256(content).hexdigest() != self.record["tables"][f"{name}.parquet"]:
                raise RunError(
                    f"table '{name}' of run '{self.path}' came with another checksum than its record states; ask for it again"
                )
            self._tables[name] = with_lists(name, pd.read_parquet(io.BytesIO(content)))
        return super().table(name)

    def activations(self, model: str, tap: str, stimuli: str = "natural", seed: int | None = None) -> xr.DataArray:
        """Refuse: activations stay with the service."""
        self._refuse("activations")

    def examples(self, model: str, tap: str, unit: int, *, size_px: int | None = None) -> xr.Dataset:
        """Refuse: pictures are on the service's pages of units."""
        self._refuse("pictures of units")

    def _refuse(self, what: str) -> NoReturn:
        raise RunError(
            f"run '{self.path}' lies with a service, which gives its tables and figures but no {what}; open it where the service runs"
        )

    def __repr__(self) -> str:
        return f"<RemoteRun '{self.record['job']['name']}' at {self._client.url}/runs/{self.path}>"


def _body(job: JobText) -> dict[str, Any]:
    """Return a job as the body of a request: a file or its text as it is, everything else as JSON."""
    if isinstance(job, Job):
        job = job.plain()
    if isinstance(job, Mapping):
        return {"content": json.dumps(dict(job)).encode(), "headers": {"Content-Type": "application/json"}}
    if isinstance(job, Path) or ("\n" not in job and not job.lstrip().startswith("{")):
        try:
            text = Path(job).read_bytes()
        except OSError as cause:
            raise JobError(f"job '{job}' cannot be read: {cause.strerror or cause}; check the path") from None
    else:
        text = job.encode()
    return {"content": text, "headers": {"Content-Type": "application/toml"}}


def _frames(lines: Iterator[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield the events of a stream of lines, as (id, kind, data)."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "event" in fields:
            yield int(fields.get("id", 0)), fields["event"], json.loads(fields.get("data", "{}"))
            fields = {}
        else:
            fields = {}


def _refuse(answer: httpx.Response) -> NoReturn:
    """Raise the service's own sentence."""
    try:
        said = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        said = f"status {answer.status_code}"
    kind = MissingError if answer.status_code == 404 else ServiceError
    raise kind(f"the service refused: {said}")
