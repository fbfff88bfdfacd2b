"""Sparse autoencoders: every position of an image described by few of many directions, in one network or in several at once.

``codes = largest(max((x - offset) @ encoder.T + bias, 0), active)``, ``x = offset + codes @ atoms``. Of several networks the codes are one network's (drawn anew in
every step) and rebuild the activations of all.

References
----------
L. Gao et al. 2024, Scaling and evaluating sparse autoencoders (TopK, and the loss by which directions that never answer take part again). B. Bussmann et al. 2024, BatchTopK.
H. Thasarathan et al. 2025, Universal sparse autoencoders. Departures: Adam with a rate that falls to 0 over the last half; atoms begin as differences of activations from their mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from universality.activations.dictionaries.dictionary import Dictionary

Rows = NDArray[np.float32]
RATE = 2e-3
IDLE_STEPS = 50
"""A direction that answered to nothing for so many steps is asked to describe what the others leave over."""
IDLE_SHARE = 1 / 32
"""Of that in the loss."""


def sae(
    rows: Sequence[Rows], directions: int, active: int, seed: int, *, steps: int, batch: int, sparsity: str = "topk",
    frozen: bool = False, device: str = "cpu",
) -> list[Dictionary]:  # fmt: skip
    """Return one dictionary for each network, learnt from activations at the same positions of the same images.

    Parameters
    ----------
    rows : for each network (row, unit)
    directions, active : how many there are, and how many describe a row
    steps, batch : of the learning; rows in a step
    sparsity : ``topk`` or ``batch_topk``
    frozen : whether the atoms stay random directions, and only the encoder learns: a null
    """
    generator = torch.Generator().manual_seed(seed)
    with _one_thread():
        scaled, offsets, scales = zip(*(_scaled(of) for of in rows), strict=True)
        data = [torch.from_numpy(of).to(device) for of in scaled]
        atoms = _first(data, directions, generator, frozen)
        encoders = [(of / of.norm(dim=1, keepdim=True).clamp_min(1e-6)).clone() for of in atoms]
        biases = [torch.zeros(directions, device=device) for _ in data]
        learnt = [*encoders, *biases, *(() if frozen else atoms)]
        for value in learnt:
            value.requires_grad_(True)
        optimiser = torch.optim.Adam(learnt, lr=RATE, betas=(0.9, 0.999))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 2 * (1 - step / steps)))
        idle = torch.zeros(directions, device=device)
        for some in _batches(len(data[0]), batch, steps, generator):
            asked = int(torch.randint(len(data), (1,), generator=generator))
            driven = torch.relu(data[asked][some] @ encoders[asked].T + biases[asked])
            codes = _sparse(driven, active, sparsity)
            answered = (codes > 0).any(dim=0)
            loss = torch.zeros((), device=device)
            silent = idle > IDLE_STEPS
            second = _sparse(driven * silent, max(active, directions // 4), "topk") if bool(silent.any()) else None
            for own, of in zip(data, atoms, strict=True):
                left = own[some] - codes @ of
                loss = loss + left.square().mean()
                if second is not None:
                    loss = loss + IDLE_SHARE * (left.detach() - second @ of).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if not frozen:
                _of_unit_length(atoms)
            idle = torch.where(answered, torch.zeros_like(idle), idle + 1)
        found = []
        for own, encoder, bias, of, offset, scale in zip(data, encoders, biases, atoms, offsets, scales, strict=True):
            threshold = _threshold(own, encoder, bias, active) if sparsity == "batch_topk" else 0.0
            w, b, d = (value.detach().cpu().double().numpy() for value in (encoder, bias, of))
            found.append(
                Dictionary(
                    "threshold" if sparsity == "batch_topk" else "topk",
                    d * scale,
                    w / scale,
                    b,
                    offset,
                    active,
                    threshold,
                )
            )
    return found


def _scaled(rows: Rows) -> tuple[Rows, NDArray[np.float64], float]:
    """Return rows less their mean, divided by one number for all units, so that the mean square is 1; and both."""
    offset = rows.mean(axis=0, dtype=np.float64)
    less = rows - offset
    scale = float(np.sqrt(np.square(less).mean()))
    return (less / scale).astype(np.float32), offset, scale


def _first(data: list[Tensor], directions: int, generator: torch.Generator, frozen: bool) -> list[Tensor]:
    """Return the atoms to begin with: of rows that are drawn, the same of every network; of frozen ones normal numbers."""
    if frozen:
        made = [torch.randn(directions, of.shape[1], generator=generator).to(of.device) for of in data]
    else:
        drawn = torch.randperm(len(data[0]), generator=generator)[:directions]
        made = [
            of[drawn] + 0.01 * torch.randn(directions, of.shape[1], generator=generator).to(of.device) for of in data
        ]
    _of_unit_length(made)
    return made


def _of_unit_length(atoms: Sequence[Tensor]) -> None:
    """Divide atoms in place by their length, the root mean square over networks: of what one of them lacks, its own may be short."""
    with torch.no_grad():
        length = torch.stack([of.square().sum(dim=1) for of in atoms]).mean(dim=0).sqrt().clamp_min(1e-8)
        for of in atoms:
            of /= length[:, None]


def _sparse(driven: Tensor, active: int, sparsity: str) -> Tensor:
    if sparsity == "batch_topk":
        count = min(active * len(driven), driven.numel())
        kept = driven.flatten().topk(count, sorted=False)
        return torch.zeros_like(driven).flatten().scatter(0, kept.indices, kept.values).reshape(driven.shape)
    kept = driven.topk(min(active, driven.shape[1]), dim=1, sorted=False)
    return torch.zeros_like(driven).scatter(1, kept.indices, kept.values)


def _threshold(data: Tensor, encoder: Tensor, bias: Tensor, active: int) -> float:
    """Return above which value codes count, so that `active` describe a row on average."""
    with torch.no_grad():
        driven = torch.relu(data @ encoder.T + bias).flatten()
        count = min(active * len(data), int((driven > 0).sum()))
        return float(driven.topk(count + 1, sorted=True).values[-1]) if 0 < count < driven.numel() else 0.0


def _batches(rows: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    order, at = torch.randperm(rows, generator=generator), 0
    for _ in range(steps):
        if at + batch > rows:
            order, at = torch.randperm(rows, generator=generator), 0
        yield order[at : at + batch]
        at += batch


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let one thread of Torch compute: sums in another order would end in other directions."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
