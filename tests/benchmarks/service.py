"""How the service answers while it is read by many and computes: seconds of a page, and memory over thousands of requests.

    python tests/benchmarks/service.py --run data/runs/quickstart --readers 200 --jobs 20 --requests 10000

The service is the real one, with its runner, on a copy of the run. First the readers (each waits some seconds between two pages) look at the pages of the run while the jobs, of seconds each, wait and run one after another on one thread; then the requests are made one after
another by a few readers, and the memory of the web process is noted.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import tiny

JOB = tiny.JOB.replace('name = "tiny"', 'name = "load"')
PATIENCE_S = 120.0


def started(folder: Path, run: Path) -> tuple[subprocess.Popen[bytes], str]:
    shutil.copytree(run, folder / "runs" / run.name)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "universality", "serve", "--port", str(port), "--runs", str(folder / "runs"), "--store", str(folder / "store"),
               "--database", f"sqlite:///{folder / 'service.db'}", "--threads", "1"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    url = f"http://127.0.0.1:{port}"
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            httpx.get(f"{url}/api/v1/jobs", timeout=10)
            return process, url
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError("the service did not start")


def pages_of(url: str, run: str) -> list[str]:
    """The pages that readers look at: the first, lists, the run, tables of it sorted and filtered, units."""
    tables = [f"/runs/{run}/tables/{name}" for name in ("families", "similarity", "pairs")]
    found = [
        "/",
        "/zoo",
        "/jobs",
        f"/runs/{run}",
        *tables,
        f"/runs/{run}/tables/similarity?sort=-value",
        f"/runs/{run}/tables/correspondence?sort=-r_natural&rows=50",
    ]
    return [page for page in found if httpx.get(url + page, timeout=120).status_code == 200]


async def read(
    url: str, pages: list[str], took: list[float], failed: list[str], until: float, pause_s: float, seed: int
) -> None:
    rng = random.Random(seed)
    limits = httpx.Limits(max_connections=2)
    async with httpx.AsyncClient(
        base_url=url, timeout=60, limits=limits, verify=False
    ) as client:  # no TLS: no certificates to read
        await asyncio.sleep(pause_s * rng.random())
        while time.monotonic() < until:
            page, began = rng.choice(pages), time.perf_counter()
            try:
                answer = await client.get(page, headers={"Accept": "text/html"})
                took.append(time.perf_counter() - began)
                if answer.status_code != 200:
                    failed.append(f"{page}: {answer.status_code}")
            except httpx.TransportError as cause:
                failed.append(f"{page}: {type(cause).__name__}")
            await asyncio.sleep(pause_s)


async def many(
    url: str, pages: list[str], readers: int, pause_s: float, seconds: float
) -> tuple[list[float], list[str]]:
    took: list[float] = []
    failed: list[str] = []
    until = time.monotonic() + seconds
    await asyncio.gather(*(read(url, pages, took, failed, until, pause_s, seed) for seed in range(readers)))
    return took, failed


def of_web(web: psutil.Process, url: str, pages: list[str], requests: int) -> None:
    """Make so many requests and say after each tenth of them what the web process holds, and what processor time a page took."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    began, made = sum(web.cpu_times()[:2]), 0
    for tenth in range(11):
        took = 1000 * (sum(web.cpu_times()[:2]) - began) / max(made, 1)
        print(
            f"after {made} requests: {web.memory_info().rss / 1e6:.0f} MB, {took:.1f} ms of its processor for each",
            flush=True,
        )
        for _ in range(requests // 10 if tenth < 10 else 0):
            connection.request("GET", pages[made % len(pages)], headers={"Accept": "text/html"})
            connection.getresponse().read()
            made += 1


def percentiles(took: list[float]) -> str:
    low, middle, high = np.percentile(took, [50, 95, 99]) * 1000
    return f"median {low:.0f} ms, 95 % {middle:.0f} ms, 99 % {high:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--pause", type=float, default=5.0, help="s between two pages of one reader")
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--requests", type=int, default=10_000)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="universality-load-"))
    process, url = started(folder, asked.run)
    try:
        pages = pages_of(url, asked.run.name)
        print(
            f"pages: {', '.join(pages)}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before anything is asked"
        )
        one = []
        for page in pages * 3:
            began = time.perf_counter()
            httpx.get(url + page, timeout=60)
            one.append(time.perf_counter() - began)
        print(f"one reader, nothing runs: {percentiles(one)}")
        began = time.perf_counter()
        for n in range(asked.jobs):
            job = JOB.replace("crops = 64", f"crops = 64\nseed = {n}")
            httpx.post(
                f"{url}/api/v1/jobs", content=job, headers={"Content-Type": "application/toml"}, timeout=120
            ).raise_for_status()
        print(f"{asked.jobs} jobs accepted in {time.perf_counter() - began:.1f} s")
        took, failed = asyncio.run(many(url, pages, asked.readers, asked.pause, asked.seconds))
        states = [job["state"] for job in httpx.get(f"{url}/api/v1/jobs", params={"limit": 100}, timeout=60).json()]
        print(
            f"{asked.readers} readers for {asked.seconds:.0f} s while jobs run: {len(took)} pages ({len(took) / asked.seconds:.0f} a second), {percentiles(took)}, "
            f"{len(failed)} failed {sorted(set(failed))[:3]}; jobs: { {state: states.count(state) for state in set(states)} }; load average {os.getloadavg()[0]:.1f}"
        )
        for job in httpx.get(f"{url}/api/v1/jobs", params={"limit": 100}, timeout=60).json():
            httpx.post(
                f"{url}/api/v1/jobs/{job['id']}/cancel", headers={"Content-Type": "application/json"}, timeout=60
            )
        of_web(psutil.Process(process.pid), url, pages, asked.requests)
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
