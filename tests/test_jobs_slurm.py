"""Scripts for clusters: syntax, and what they ask for."""

import subprocess

import pytest

from universality.base.errors import JobError
from universality.jobs.slurm import Slurm, sbatch


def checked(script: str) -> str:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, capture_output=True)
    return script


def test_script_is_bash_and_asks_for_what_was_said():
    script = checked(sbatch("a job.toml", "/shared/it's here", "runs/x", Slurm(8, 4, "16GB", partition="long", gpus=1)))
    for line in ("--ntasks=8", "--cpus-per-task=4", "--mem-per-cpu=4000M", "--partition=long", "--gpus-per-task=1"):
        assert f"\n#SBATCH {line}\n" in script
    assert "--nthreads 4 --memory-limit 16GB --resources GPU=1" in script
    assert "--account" not in script


def test_paths_reach_the_shell_as_they_are():
    script = sbatch("a job.toml", "/shared/it's $HOME", "runs/`x`", Slurm(1, 1, "1GB"))
    lines = [line for line in script.splitlines() if line.startswith(("job=", "store=", "out="))]
    shown = subprocess.run(
        ["bash", "-c", "\n".join(lines) + '\nprintf "%s\\n" "$job" "$store" "$out"'],
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert shown.stdout.splitlines() == ["a job.toml", "/shared/it's $HOME", "runs/`x`"]


def test_broken_script_would_be_noticed():
    with pytest.raises(subprocess.CalledProcessError):
        checked(sbatch("j", "s", "o", Slurm(1, 1, "1GB")).replace("done", ""))


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        (Slurm(1, 1, "lots"), "memory 'lots' is no size"),
        (Slurm(1, 1, "1GB", time="soon"), "time 'soon' is no duration"),
        (Slurm(1, 1, "1GB", partition="a b\n#SBATCH --x"), "(?s)partition .* holds characters"),
    ],
)
def test_nonsense_is_refused(asked, match):
    with pytest.raises(JobError, match=match):
        sbatch("j", "s", "o", asked)
