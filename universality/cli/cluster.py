"""Scripts for clusters: ``universality cluster ...``."""

from __future__ import annotations

from typing import Annotated

import typer

from universality.cli.options import JobArgument

cluster_app = typer.Typer(help="Scripts for clusters.", no_args_is_help=True, rich_markup_mode=None)


@cluster_app.command("slurm")
def cluster_slurm(
    job: JobArgument,
    workers: Annotated[int, typer.Option("--workers", help="Dask workers.", min=1)] = 4,
    cores: Annotated[int, typer.Option("--cores", help="Cores of each worker.", min=1)] = 4,
    memory: Annotated[str, typer.Option("--memory", help="Memory of each worker.", metavar="SIZE")] = "16GB",
    longest: Annotated[str, typer.Option("--time", help="Longest run, [days-]hours:minutes:seconds.")] = "12:00:00",
    partition: Annotated[str, typer.Option("--partition", help="SLURM partition.")] = "",
    account: Annotated[str, typer.Option("--account", help="SLURM account.")] = "",
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of each worker.", min=0)] = 0,
    store: Annotated[str, typer.Option("--store", help="Folder that all nodes see, or URL.")] = "data/store",
    out: Annotated[str, typer.Option("--out", help="Run directory.")] = "data/runs/cluster",
) -> None:
    """Print a script for sbatch that runs a job on workers of a SLURM cluster.

    Example: universality cluster slurm job.toml --workers 8 --cores 4 --memory 16GB > job.sbatch
    """
    from universality.jobs.slurm import Slurm, sbatch

    asked = Slurm(workers, cores, memory, longest, partition, account, gpus)
    typer.echo(sbatch(str(job), store, out, asked), nl=False)
