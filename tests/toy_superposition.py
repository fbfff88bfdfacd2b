"""Toy models of superposition (Elhage et al. 2022): more features than units, each known, and how often they are there together is chosen."""

from functools import cache

import numpy as np
import torch

FEATURES, HIDDEN = 20, 5


@cache
def toy(sparsity, steps=1200, seed=0):
    """Train x -> ReLU(W'W x + b) and return its features (feature, unit) and its hidden activations (row, unit) for new inputs.

    A feature is absent with probability `sparsity`, else uniform between 0 and 1; earlier ones matter a little more.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(seed)

    def inputs(count):
        return torch.rand(count, FEATURES, generator=draw) * (torch.rand(count, FEATURES, generator=draw) > sparsity)

    w = (torch.randn(HIDDEN, FEATURES, generator=draw) / FEATURES**0.5).requires_grad_(True)
    b = torch.zeros(FEATURES, requires_grad=True)
    importance = 0.95 ** torch.arange(FEATURES)
    adam = torch.optim.Adam([w, b], lr=1e-2)
    rate = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: min(1, 2 * (1 - step / steps)))
    for _ in range(steps):
        x = inputs(512)
        loss = (importance * (x - torch.relu(x @ w.T @ w + b)) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()
    x = inputs(20_000)
    with torch.no_grad():
        hidden = x[x.any(dim=1)] @ w.T
    torch.set_num_threads(before)
    return w.detach().numpy().T.astype(np.float64), hidden.numpy()


def present(features):
    """Features that the toy represents at all."""
    return features[np.linalg.norm(features, axis=1) > 0.5]
