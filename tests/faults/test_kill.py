"""The small form of kill.py: a few kills at random moments; the long form is a script with a report."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_jobs_end_with_identical_tables(tmp_path, record_property):
    """A job is killed twice and goes on; of another two workers are killed. Both end with the tables of one undisturbed run."""
    record_property("cases", 4)
    # In a process of its own: only one that has started no threads may fork.
    script, written = Path(__file__).with_name("kill.py"), tmp_path / "r"
    # A seed with which of either one kill falls into the extraction and one into the comparisons.
    asked = ["--whom", "job", "worker", "--kills", "2", "--each", "2", "--seed", "2501"]
    command = [sys.executable, script, *asked, "--report", written]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| kills |" in written.read_text()
