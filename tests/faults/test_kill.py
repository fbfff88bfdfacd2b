"""The small form of kill.py: a few blows at random moments; the long form is a script with a report."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_jobs_end_with_identical_tables(tmp_path):
    # In a process of its own: only one that has started no threads may fork.
    command = [
        sys.executable,
        str(Path(__file__).with_name("kill.py")),
        "--kills",
        "4",
        "--report",
        str(tmp_path / "r"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| kills |" in (tmp_path / "r").read_text()
