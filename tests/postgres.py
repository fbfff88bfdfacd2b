"""A PostgreSQL server of one's own in a temporary folder, where its programs are installed."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psycopg
import pytest


def program(name: str) -> str | None:
    """The path of one of PostgreSQL's programs; Debian keeps them out of the path."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(kept[-1]) if kept else None)


@contextlib.contextmanager
def running_postgres(folder: Path):
    """Yield the URL of a server; skip the test where there is none to start."""
    server, initdb = program("postgres"), program("initdb")
    if server is None or initdb is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    data, how = folder / "data", {}
    data.mkdir()
    if os.getuid() == 0:  # it refuses to run as root
        try:
            owner = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        for part in folder.parents[:-2]:
            part.chmod(part.stat().st_mode | 0o011)
        folder.chmod(0o755)
        how = {"user": "postgres", "group": owner.pw_gid, "extra_groups": []}
    subprocess.run(
        [initdb, "-D", data, "-A", "trust", "-U", "universality", "--no-sync"],
        check=True,
        stdout=subprocess.DEVNULL,
        **how,
    )
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["-c", "fsync=off", "-c", "log_min_messages=fatal", "-c", "listen_addresses=127.0.0.1"]
    process = subprocess.Popen(
        [server, "-D", data, "-p", str(port), "-k", data, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **how,
    )
    url = f"postgresql://universality@127.0.0.1:{port}/postgres"
    try:
        end = time.monotonic() + 300
        while True:
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None and time.monotonic() < end, "PostgreSQL does not start"
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)
