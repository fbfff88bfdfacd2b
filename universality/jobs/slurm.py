"""Scripts that bring a job to a cluster. They start a scheduler and workers, run the job, and stop them again."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from universality.base.errors import JobError

_MEMORY = re.compile(r"([1-9][0-9]*)\s*(MB|GB)")
_TIME = re.compile(r"(?:[0-9]+-)?[0-9]{1,3}:[0-9]{2}:[0-9]{2}")


@dataclass(frozen=True)
class Slurm:
    """What is asked of SLURM.

    Attributes
    ----------
    workers : Dask workers, each a SLURM task
    cores, memory : of each worker; `memory` such as ``"16GB"``
    time : longest run, ``[days-]hours:minutes:seconds``
    partition, account : "" for the cluster's own
    gpus : GPUs of each worker
    """

    workers: int
    cores: int
    memory: str
    time: str = "12:00:00"
    partition: str = ""
    account: str = ""
    gpus: int = 0


def sbatch(job: str, store: str, out: str, slurm: Slurm) -> str:
    """Return a script for ``sbatch``.

    All nodes have to see the same paths. BLAS and Torch get one thread for each task; each worker computes as many
    tasks at a time as it has cores.

    Raises
    ------
    JobError
        Memory or time are not written as they should be.
    """
    memory = _MEMORY.fullmatch(slurm.memory)
    if memory is None:
        raise JobError(f"memory '{slurm.memory}' is no size, expected for example 16GB; correct --memory")
    if _TIME.fullmatch(slurm.time) is None:
        raise JobError(f"time '{slurm.time}' is no duration, expected [days-]hours:minutes:seconds; correct --time")
    for name, value in (("partition", slurm.partition), ("account", slurm.account)):
        if value and re.fullmatch(r"[A-Za-z0-9_.,\-]+", value) is None:
            raise JobError(f"{name} '{value}' holds characters that a #SBATCH line cannot; correct --{name}")
    directives = [
        "--job-name=universality",
        f"--ntasks={slurm.workers}",
        f"--cpus-per-task={slurm.cores}",
        f"--mem-per-cpu={_per_core_mb(memory, slurm.cores)}M",
        f"--time={slurm.time}",
        *([f"--partition={slurm.partition}"] if slurm.partition else []),
        *([f"--account={slurm.account}"] if slurm.account else []),
        *([f"--gpus-per-task={slurm.gpus}"] if slurm.gpus else []),
    ]
    quoted = {name: shlex.quote(value) for name, value in (("job", job), ("store", store), ("out", out))}
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH {line}" for line in directives),
        cores=slurm.cores, memory=f"{memory[1]}{memory[2]}", workers=slurm.workers, **quoted,
        resources=f" --resources GPU={slurm.gpus}" if slurm.gpus else "",
    )  # fmt: skip


def _per_core_mb(memory: re.Match[str], cores: int) -> int:
    total = int(memory[1]) * (1000 if memory[2] == "GB" else 1)
    return -(-total // cores)


_SCRIPT = """#!/bin/bash
{directives}
#SBATCH --output=universality-%j.log
set -euo pipefail

# One thread of the linear algebra and of Torch in each task; a worker computes as many tasks at a time as it has cores.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MALLOC_ARENA_MAX=1
job={job}
store={store}
out={out}
address="scheduler-$SLURM_JOB_ID.json"

dask scheduler --port 0 --scheduler-file "$address" &
scheduler=$!
trap 'kill "$scheduler" 2>/dev/null; rm -f "$address"' EXIT
until [ -s "$address" ]; do sleep 1; done
srun --ntasks={workers} dask worker --scheduler-file "$address" --nthreads {cores} --memory-limit {memory}{resources} \\
    --death-timeout 60 &

# What is finished is kept in the store: submit this script again after a time limit, and the job goes on.
contact=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["address"])' "$address")
universality run "$job" --store "$store" --out "$out" --scheduler "$contact" --retries 2
"""
