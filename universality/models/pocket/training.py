"""Train one network of the pocket zoo: ``universality zoo train pocket/vgg-focus-s0``.

Images come from `shapes`: stream 0 for training (drawn once per diet and kept in a cache),
stream 1 for the accuracy after every epoch, stream 2 for the accuracy that is reported. The
training starts again where it was stopped, and repeats bit by bit on the same machine with the same
number of threads; machines without AVX-512 compute in float32 where others take bfloat16 (`precision`). The output folder then holds

``model.safetensors``
    The weights, float32.
``epoch-000.safetensors`` and so on
    Weights before training and after a few early epochs, to see features emerge.
``history.json``
    Recipe, versions, precision, loss and accuracy per epoch, images per second, seconds, final accuracy.
"""

import json
import multiprocessing
import os
import pickle
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from universality.base.errors import CardError
from universality.models.pocket import networks, shapes

TRAINING_STREAM, VALIDATION_STREAM, TEST_STREAM = 0, 1, 2
N_VALIDATION, N_TEST = 2304, 5760
EARLY_EPOCHS = (0, 1, 2, 4)
MEAN, STD = 0.5, 0.25
EPOCHS = {"alexnet": 8, "vgg": 4, "inceptionv1": 4, "resnet": 4}
"""Passes through the images; what each architecture sees in about four minutes on one core."""


def precision() -> torch.dtype:
    """Return what the forward passes of training compute in: bfloat16 where the processor multiplies it, else float32.

    Without AVX-512 Torch convolves bfloat16 by loops of its own, ten times slower than float32. The shipped networks
    were trained in bfloat16.
    """
    return torch.bfloat16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else torch.float32


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights, besides machine and versions."""

    architecture: str
    diet: shapes.Diet
    task: shapes.Task
    seed: int
    epochs: int
    n_images: int = 48_384
    batch_size: int = 128
    peak_rate: float = 2.5e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    gradient_norm: float = 1.0


@dataclass(frozen=True)
class Dataset:
    """Images (image, y, x, channel) uint8 and labels (image,) int64, in index order."""

    images: NDArray[np.uint8]
    labels: Tensor


def cached_images(cache: Path, diet: shapes.Diet, stream: int, n: int, workers: int) -> NDArray[np.uint8]:
    """Images 0 to n - 1 of a stream, drawn once by several processes and kept on disk.

    Parameters
    ----------
    cache : Path
        Folder of the drawn streams; made if missing.
    diet : {"focus", "sharp"}
        Diet of `shapes`.
    stream : int
        Seed of the images.
    n : int
        Number of images.
    workers : int
        Drawing processes.

    Returns
    -------
    ndarray of uint8, shape (n, 64, 64, 3)
        Read-only memory map.
    """
    path = cache / f"{diet}-stream{stream}-{n}-generator{shapes.GENERATOR_VERSION}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        side = shapes.REFERENCE_PX
        images = open_memmap(partial, mode="w+", dtype=np.uint8, shape=(n, side, side, 3))
        for start, block in _drawn_blocks(diet, stream, n, workers):
            images[start : start + len(block)] = block
        images.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def dataset(images: NDArray[np.uint8], recipe: Recipe, stream: int) -> Dataset:
    """Join images of a stream with their labels for the recipe's task."""
    parameters = shapes.sample_parameters(len(images), stream, recipe.diet)
    return Dataset(images, torch.from_numpy(shapes.labels(parameters, recipe.task)))


def normalised(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (image, y, x, channel) -> float (image, channel, y, x), channels last in memory."""
    values = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return (values.float() / 255 - MEAN) / STD


def train(
    recipe: Recipe,
    training: Dataset,
    validation: Dataset,
    out: Path,
    say: Callable[[str], None] = print,
    kept: Sequence[int] = EARLY_EPOCHS,
) -> nn.Module:
    """Train from scratch or from where ``out/resume.pt`` stopped.

    Parameters
    ----------
    recipe : Recipe
        What to train and how.
    training, validation : Dataset
        Images to learn from, and to report accuracy on after every epoch.
    out : Path
        Folder for checkpoints and history; made if missing.
    kept : sequence of int
        Epochs whose weights are written, as ``epoch-001.safetensors``; those before training always are.

    Returns
    -------
    nn.Module
        The trained network in evaluation mode, on the CPU.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    model = networks.build(recipe.architecture, len(shapes.SHAPES))
    model = model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), recipe.peak_rate, weight_decay=recipe.weight_decay, fused=True)
    steps = len(training.images) // recipe.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.peak_rate, total_steps=steps * recipe.epochs, pct_start=0.25
    )
    epochs = _restore(out, recipe, model, optimiser, schedule)
    if not epochs:
        _save_weights(model, out / "epoch-000.safetensors")
    for epoch in range(len(epochs) + 1, recipe.epochs + 1):
        started = time.perf_counter()
        loss = _train_epoch(model, optimiser, schedule, recipe, training)
        seconds = time.perf_counter() - started
        row = {
            "epoch": epoch,
            "loss": loss,
            "accuracy": accuracy(model, validation),
            "seconds": seconds,
            "images_per_second": steps * recipe.batch_size / seconds,
        }
        epochs.append(row)
        say(_progress_line(recipe, row))
        if epoch in kept:
            _save_weights(model, out / f"epoch-{epoch:03d}.safetensors")
        _checkpoint(out, recipe, model, optimiser, schedule, epochs)
    return model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, held_out: Dataset) -> float:
    """Share of held-out images classified rightly, 0 to 1; float32, evaluation mode."""
    model.eval()
    right = 0
    for first in range(0, len(held_out.images), 256):
        rows = slice(first, first + 256)
        logits = model(normalised(held_out.images[rows]))
        right += int((logits.argmax(1) == held_out.labels[rows]).sum())
    return right / len(held_out.images)


def recipe_of(name: str, *, epochs: int | None = None, n_images: int | None = None) -> Recipe:
    """Return the recipe that a name states, such as ``vgg-focus-s0`` or ``resnet-focus-texture-s0``.

    Raises
    ------
    CardError
        If the name is not ARCHITECTURE-DIET-sSEED or ARCHITECTURE-DIET-texture-sSEED.
    """
    found = re.fullmatch(r"(?:pocket/)?([a-z0-9]+)-([a-z]+)(-texture)?-s([0-9]{1,6})", name)
    if found is None or found[1] not in networks.ARCHITECTURES or found[2] not in shapes.DIETS:
        raise CardError(
            f"'{name}' names no pocket network, expected ARCHITECTURE-DIET-sSEED or ARCHITECTURE-DIET-texture-sSEED with "
            f"ARCHITECTURE one of {', '.join(networks.ARCHITECTURES)} and DIET one of {', '.join(shapes.DIETS)}"
        )
    recipe = Recipe(
        architecture=found[1], diet=found[2], task="texture" if found[3] else "shape", seed=int(found[4]),
        epochs=epochs or EPOCHS[found[1]],
    )  # fmt: skip
    return recipe if n_images is None else replace(recipe, n_images=n_images)


def train_named(name: str, out: Path, cache: Path, *, threads: int = 1, say: Callable[[str], None] = print) -> Path:
    """Train the network that `name` states and return its weights file; goes on where it was stopped.

    Parameters
    ----------
    name : str
        As for `recipe_of`.
    out, cache : Path
        Folder of the checkpoints, weights and history; folder of the drawn images.
    threads : int
        Of Torch; the weights depend on it. One is the shipped networks' number: a second one gains little, and loses
        much where something else uses a core.
    """
    recipe = recipe_of(name)
    _claim(out, recipe)
    if precision() is torch.float32:
        say("this processor does not multiply bfloat16: training in float32, unlike the shipped networks")
    torch.set_num_threads(threads)
    sizes = {TRAINING_STREAM: recipe.n_images, VALIDATION_STREAM: N_VALIDATION, TEST_STREAM: N_TEST}
    training, validation, test = (
        dataset(cached_images(cache, recipe.diet, stream, n, threads), recipe, stream) for stream, n in sizes.items()
    )
    model = train(recipe, training, validation, out, say)
    final = accuracy(model, test)
    _save_weights(model, out / "model.safetensors")
    _write_history(out, recipe, model, final, threads)
    (out / "resume.pt").unlink()
    say(f"{_name(recipe)}: accuracy on {N_TEST} held-out images {final:.4f}")
    return out / "model.safetensors"


def _claim(out: Path, recipe: Recipe) -> None:
    """Make the folder, and refuse one that cannot be used, before minutes are spent on drawing images."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise CardError(
            f"'{out}' cannot be a folder for weights ({cause.strerror or cause}); give another with --out"
        ) from None
    if not os.access(out, os.W_OK):
        raise CardError(f"folder '{out}' cannot be written (permission denied); give another with --out")
    _resumed(out, recipe)


def _resumed(out: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Return the last checkpoint of this recipe, None where there is none; raise `CardError` for any other file."""
    path = out / "resume.pt"
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        belongs = state["recipe"] == asdict(recipe)
    except OSError as cause:
        raise CardError(
            f"checkpoint '{path}' cannot be read: {cause.strerror or cause}; check its permissions, or give another folder with --out"
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as cause:
        raise CardError(
            f"checkpoint '{path}' is damaged ({type(cause).__name__}); remove it or give another folder with --out"
        ) from None
    if not belongs:
        raise CardError(f"'{path}' belongs to another recipe; remove it or give another folder with --out")
    return state


def _draw_block(job: tuple[shapes.Diet, int, int, int]) -> tuple[int, NDArray[np.uint8]]:
    diet, stream, start, n = job
    return start, shapes.render(shapes.sample_parameters(n, stream, diet, start))


def _drawn_blocks(diet: shapes.Diet, stream: int, n: int, workers: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    size = 512
    jobs = [(diet, stream, start, min(size, n - start)) for start in range(0, n, size)]
    # Forking a process that already runs Torch's threads can deadlock.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_draw_block, jobs)


def _train_epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
    training: Dataset,
) -> float:
    """One pass in random order; mean loss. The last, incomplete batch is left out."""
    model.train()
    total = 0.0
    order = torch.randperm(len(training.images))
    batches = order[: len(order) // recipe.batch_size * recipe.batch_size]
    for rows in batches.view(-1, recipe.batch_size):
        images = normalised(training.images[rows.numpy()])
        if recipe.task == "shape":
            images = _symmetries(images)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision() is torch.bfloat16):
            logits = model(images)
        loss = functional.cross_entropy(logits.float(), training.labels[rows], label_smoothing=recipe.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
        optimiser.step()
        schedule.step()
        total += float(loss.detach())
    return total / len(batches) * recipe.batch_size


def _symmetries(images: Tensor) -> Tensor:
    """Apply the eight symmetries of the square, each to an eighth of the batch.

    Shape labels do not change under them; texture labels would, as they name orientations.
    """
    parts = list(images.chunk(8))
    for number, part in enumerate(parts):
        turned = part.transpose(2, 3) if number & 4 else part
        parts[number] = turned.flip([axis for axis, bit in ((2, 1), (3, 2)) if number & bit])
    return torch.cat(parts).contiguous(memory_format=torch.channels_last)


def _restore(
    out: Path,
    recipe: Recipe,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> list[dict[str, Any]]:
    """Load the last checkpoint, if there is one, and return the epochs it has behind it."""
    state = _resumed(out, recipe)
    if state is None:
        return []
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["generator"])
    epochs: list[dict[str, Any]] = state["epochs"]
    return epochs


def _checkpoint(
    out: Path,
    recipe: Recipe,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    epochs: list[dict[str, Any]],
) -> None:
    """Write everything `_restore` needs, whole or not at all."""
    state = {
        "recipe": asdict(recipe),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "generator": torch.get_rng_state(),
        "epochs": epochs,
    }
    torch.save(state, out / "resume.partial")
    (out / "resume.partial").rename(out / "resume.pt")


def _save_weights(model: nn.Module, path: Path) -> None:
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)


def _write_history(out: Path, recipe: Recipe, model: nn.Module, final: float, threads: int) -> None:
    epochs = torch.load(out / "resume.pt", weights_only=True)["epochs"]
    history = {
        "recipe": asdict(recipe),
        "preprocessing": {"size_px": shapes.REFERENCE_PX, "mean": MEAN, "std": STD},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "accuracy": final,
        "n_test": N_TEST,
        "generator": shapes.GENERATOR_VERSION,
        "seconds": sum(row["seconds"] for row in epochs),
        "threads": threads,
        "precision": str(precision()).removeprefix("torch."),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "epochs": epochs,
    }
    (out / "history.json").write_text(json.dumps(history, indent=1) + "\n")


def _name(recipe: Recipe) -> str:
    task = "-texture" if recipe.task == "texture" else ""
    return f"{recipe.architecture}-{recipe.diet}{task}-s{recipe.seed}"


def _progress_line(recipe: Recipe, row: dict[str, Any]) -> str:
    return (
        f"{_name(recipe)} epoch {row['epoch']:2d}/{recipe.epochs}  loss {row['loss']:.3f}  "
        f"accuracy {row['accuracy']:.3f}  {row['seconds']:.0f} s  "
        f"{row['images_per_second']:.0f} images/s"
    )
