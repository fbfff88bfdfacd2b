"""The user's surroundings do not matter: a home that cannot be written, another locale and character set, a notebook's Matplotlib backend."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

AT_WORK = """
from pathlib import Path

import universality
from universality import report
from universality.figures import export
from universality.jobs import seconds

run = universality.open_run({run!r}, {store!r})
spent = seconds.Spent()
spent.add("start", 1.0, 1.0)
seconds.record(spent)
drawn = list(export(run, Path({out!r}), formats=["png"], kinds=["detectors_against_depth"]))
said = report.findings(run)
print(drawn[0][0].name, bool(said), seconds.path())
"""


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a folder in which nobody can write: /proc")
def test_a_home_that_cannot_be_written_and_another_locale(small, tmp_path):
    """Caches (seconds, Matplotlib's) are done without; what is read and written is UTF-8 under any locale."""
    taken = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "UNIVERSALITY_SECONDS", "TORCH_HOME", "HF_HOME")
    surroundings = {name: value for name, value in os.environ.items() if name not in taken} | {
        "HOME": "/proc", "LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline_that_is_not_there",
    }  # fmt: skip
    code = AT_WORK.format(run=str(small.out), store=str(small.store), out=str(tmp_path / "figures"))
    done = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "detectors_against_depth__curve.png True /proc/.cache/universality/seconds.json\n"
