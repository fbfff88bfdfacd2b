"""Checkpoints as training scripts leave them: read without running code, unwrapped, and fitted to an architecture.

A file holds one or several *sets* of tensors: nested under a key (``state_dict``, ``model_ema``), under a prefix that wrappers put
before every name (``module.``, ``_orig_mod.``), or both. The one that fits the architecture is taken; where two fit and differ
(raw weights beside their moving average), the user is asked. What was unwrapped, left out or converted is said in words.
"""

from __future__ import annotations

import argparse
import pickle
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from universality.base.errors import WeightsError, did_you_mean
from universality.models.weight_files import SAFETENSORS, suffix_of

StateDict = Mapping[str, Tensor]
_DEEPEST = 3
"""How deep sets of tensors are looked for in nested dictionaries."""
_COUNTER = "num_batches_tracked"
"""Of BatchNorm: checkpoints from before it lack it, and eval mode never reads it."""
# What Torch's restricted unpickler raises for files that are no checkpoints.
_UNREADABLE = (
    pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
    OverflowError, struct.error, AssertionError, NotImplementedError, OSError,
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What a card says of a checkpoint.

    Attributes
    ----------
    part : which set of tensors is meant, as `Fitted.part` names it; empty: the one that fits
    by_order : whether tensors find their place by their order instead of their names
    drop_prefixes : tensors of parts that the network leaves out
    """

    part: str = ""
    by_order: bool = False
    drop_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """A state dict that fits a network, and what was done to it.

    Attributes
    ----------
    state : every tensor of the network, in its own kinds of numbers
    part : where in the file the tensors lay: nested keys, then the prefix of their names; empty for the file itself
    done : what was unwrapped and converted, in words
    lost : what was left out or filled, in words: a card has to state it
    """

    state: StateDict
    part: str
    done: tuple[str, ...]
    lost: tuple[str, ...]


def read(path: Path) -> Any:
    """Return what a file holds: tensors by name, or nested dictionaries with such; no code is run.

    Raises
    ------
    WeightsError
        It cannot be read, or needs code.
    """
    try:
        with path.open("rb"):
            pass  # for an unreadable file the libraries report that there is none
    except OSError as cause:
        raise WeightsError(
            f"weights file '{path}' cannot be read: {cause.strerror or cause}; change its permissions"
        ) from None
    try:
        if suffix_of(path) == SAFETENSORS:
            return load_file(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            # Torch warns of what it then refuses, or of kinds of tensors that are refused below. A namespace holds the
            # arguments of a training script: plain values under names, and nothing that runs.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as cause:
        raise WeightsError(
            f"weights file '{path}' is not a plain state dict ({_why_refused(path, cause)}), expected safetensors or a "
            "file that loads with weights_only=True; files with code are refused"
        ) from None


def _why_refused(path: Path, cause: BaseException) -> str:
    """Return what a file needs that is no tensor, as Torch finds it, else the kind of error."""
    try:
        needs = sorted(set(torch.serialization.get_unsafe_globals_in_checkpoint(str(path))) - {"argparse.Namespace"})
    except Exception:
        needs = []
    return f"it needs {', '.join(needs[:3])}" if needs else type(cause).__name__


@dataclass(frozen=True)
class _Set:
    part: str
    state: StateDict
    left: tuple[str, ...] = ()


def fit(content: Any, network: nn.Module, wanted: Wanted, path: Path, who: str) -> Fitted:
    """Find the set of tensors in a file's content that fits a network, and give it the network's names and kinds.

    Parameters
    ----------
    content : what `read` returned
    path, who : Path, str
        The file, and whose weights they are, for errors.

    Raises
    ------
    WeightsError
        None fits (with what the nearest lacks), two fit and differ, or values are not finite.
    """
    target = network.state_dict()
    fits = [fitting for found in _sets(content, path) for fitting in _fittings(found, target, wanted, path, who)]
    if wanted.part:
        parts = list(dict.fromkeys(name for f in fits for name in (f.found, f.part) if name))
        fits = [f for f in fits if wanted.part in (f.found, f.part)]
        if not fits:
            known = f"one of {', '.join(map(repr, parts))}" if parts else "the tensors of the file itself"
            raise WeightsError(
                f"weights file '{path}' holds no set of tensors '{wanted.part}'{did_you_mean(wanted.part, parts)}, expected {known}"
            )
    fitting = [f for f in fits if f.state and not f.unknown and not f.misshapen]
    whole = [f for f in fitting if not f.missing]
    chosen = _one(whole or [f for f in fitting if f.headless(network)], path)
    if chosen is None:
        raise WeightsError(_misfit(fits, target, network, path, who))
    return chosen.finished(target, path, who)


def _sets(content: Any, path: Path, at: str = "", depth: int = 0) -> Iterator[_Set]:
    """Yield every dictionary of names to tensors, nested ones too; in a mixture the tensors count."""
    if not isinstance(content, Mapping):
        if depth == 0:
            raise WeightsError(
                f"weights file '{path}' holds no state dict (names to tensors) but {type(content).__name__}; save model.state_dict()"
            )
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        _refuse_kinds(tensors, path)
        yield _Set(at, tensors, tuple(str(name) for name in content if name not in tensors))
    elif depth < _DEEPEST:
        inner = [s for name, value in content.items() if isinstance(value, Mapping)
                 for s in _sets(value, path, f"{at}/{name}" if at else str(name), depth + 1)]  # fmt: skip
        if not inner and depth == 0:
            raise WeightsError(f"weights file '{path}' holds no state dict (names to tensors); save model.state_dict()")
        yield from inner


def _refuse_kinds(tensors: StateDict, path: Path) -> None:
    if any(tensor.layout != torch.strided or tensor.device.type != "cpu" for tensor in tensors.values()):
        raise WeightsError(
            f"weights file '{path}' holds sparse or empty (meta) tensors, expected plain ones; convert them"
        )
    twofold = next((name for name, tensor in tensors.items() if tensor.is_complex()), None)
    if twofold is not None:
        raise WeightsError(
            f"weights file '{path}' holds complex numbers in '{twofold}', expected real ones; convert them"
        )


@dataclass(frozen=True)
class _Fitting:
    """A set seen as the tensors of a network under one prefix.

    Attributes
    ----------
    found, part : name of the set, and with the prefix
    state : the network's tensors that it has
    missing, misshapen : of the network: those that it lacks, or has in another shape
    unknown : under the prefix and not of the network
    others : of the set, not under the prefix; `beside` are no tensors
    shapes : of all under the prefix, in their order
    """

    found: str
    part: str
    state: StateDict
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    unknown: tuple[str, ...]
    others: tuple[str, ...]
    beside: tuple[str, ...]
    done: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def headless(self, network: nn.Module) -> bool:
        """Return whether what is missing is the classifier, all of it: a backbone saved without."""
        head = head_of(network)
        return bool(head) and set(self.missing) == {
            f"{head}.{name}" for name, _ in network.get_submodule(head).named_parameters()
        }

    def finished(self, target: StateDict, path: Path, who: str) -> Fitted:
        """Return the tensors in the network's own kinds of numbers."""
        kinds = sorted(
            {str(t.dtype).removeprefix("torch.") for n, t in self.state.items() if t.dtype != target[n].dtype}
        )
        done = (*self.done, f"converted from {', '.join(kinds)}") if kinds else self.done
        lost = [f"left out {_listed(names)}" for names in (self.others, self.beside) if names]
        if self.missing:
            lost.append(f"no classifier in the file: {_listed(self.missing)} are 0")
        state = {name: value for name, value in target.items() if name.endswith(_COUNTER)}
        state |= {name: torch.zeros_like(target[name]) for name in self.missing}
        for name, tensor in self.state.items():
            state[name] = tensor.detach().to(target[name].dtype)
            if state[name].is_floating_point() and not torch.isfinite(state[name]).all():
                raise WeightsError(
                    f"weights of '{who}' in '{path}' have NaN or infinite values in '{name}', expected finite weights; give "
                    "another file"
                )
        return Fitted(state, self.part, done, tuple(lost))


def head_of(network: nn.Module) -> str:
    """Return the name of the network's last module with weights of its own, if that is linear: its classifier; else empty."""
    weighted = [
        name for name, module in network.named_modules() if name and any(True for _ in module.parameters(False))
    ]
    last = weighted[-1] if weighted else ""
    return last if last and isinstance(network.get_submodule(last), nn.Linear) else ""


def _fittings(found: _Set, target: StateDict, wanted: Wanted, path: Path, who: str) -> Iterator[_Fitting]:
    """Yield how a set fits a network: by order, or by name under each of the prefixes that find the most names."""
    state = {k: v for k, v in found.state.items() if not (wanted.drop_prefixes and k.startswith(wanted.drop_prefixes))}
    if wanted.by_order and state.keys() != target.keys():
        if suffix_of(path) == SAFETENSORS:
            raise WeightsError(
                f"weights of '{who}' in '{path}' go by order, and a safetensors file does not keep the order of its "
                "tensors; save the network's own state dict, or give a .pth file"
            )
        if len(state) == len(target):
            yield _fitting(
                found, "", dict(zip(target, state.values(), strict=True)), (), target, "placed by their order"
            )
        else:
            yield _fitting(found, "", {}, tuple(state), target, "")
        return
    ends = list(target)[:3]
    prefixes = {"", *(name[: -len(own)] for own in ends for name in state if name.endswith(f".{own}"))}
    hits = {prefix: sum(prefix + own in state for own in target) for prefix in prefixes}
    for prefix in sorted((p for p, n in hits.items() if n == max(hits.values())), key=len):
        under = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        others = tuple(name for name in state if not name.startswith(prefix))
        yield _fitting(found, prefix, under, others, target, f"prefix '{prefix}' removed" if prefix else "")


def _fitting(
    found: _Set, prefix: str, under: StateDict, others: tuple[str, ...], target: StateDict, said: str
) -> _Fitting:
    state = {name: under[name] for name in target if name in under}
    at = (f"the tensors under '{found.part}'",) if found.part else ()
    return _Fitting(
        found=found.part,
        part="/".join(part for part in (found.part, prefix.rstrip(".")) if part),
        state=state,
        missing=tuple(name for name in target if name not in under and not name.endswith(_COUNTER)),
        misshapen=tuple(name for name in state if state[name].shape != target[name].shape),
        unknown=tuple(prefix + name for name in under if name not in target),
        others=others,
        beside=found.left,
        done=(*at, said) if said else at,
        shapes=tuple(tuple(tensor.shape) for tensor in under.values()),
    )


def _one(fits: Sequence[_Fitting], path: Path) -> _Fitting | None:
    """Return the first of those that fit; raise if two differ in values."""
    for other in fits[1:]:
        if any(not torch.equal(tensor, other.state[name]) for name, tensor in fits[0].state.items()):
            names = [f.part or "the file itself" for f in fits]
            raise WeightsError(
                f"weights file '{path}' holds {len(fits)} sets of weights that fit and differ, {' and '.join(map(repr, names))}; say which, "
                f"such as --weights-part {other.part}"
            )
    return fits[0] if fits else None


def _misfit(fits: Sequence[_Fitting], target: StateDict, network: nn.Module, path: Path, who: str) -> str:
    """Return what the set that fits best has wrong, and what would mend it."""
    best = max(fits, key=lambda f: len(f.state) - len(f.misshapen))
    head, file = f"weights of '{who}' in '{path}' have ", "give the file the card names"
    expected = f"expected the {len(target)} tensors of {type(network).__name__}"
    if not best.state and not best.unknown:
        return f"{head}{len(best.others)} tensors, {expected}, in their order; {file}"
    if best.misshapen:
        name = best.misshapen[0]
        came, wanted = (tuple(of[name].shape) for of in (best.state, target))
        classes = name.rpartition(".")[0] == head_of(network) and came[1:] == wanted[1:]
        return f"{head}shape {came} for '{name}', expected {wanted}; " + (
            f"if they tell {came[0]} classes apart give --argument num_classes={came[0]}" if classes else file
        )
    if not best.state and best.shapes == tuple(tuple(tensor.shape) for tensor in target.values()):
        return f"{head}names such as {_listed(best.unknown)}, {expected}, whose shapes and order they share; give --by-order"
    if best.missing:
        more = f"and {len(best.unknown)} unknown ones such as '{best.unknown[0]}', " if best.unknown else ""
        return f"{head}no tensor '{best.missing[0]}' ({len(best.missing)} are missing), {more}{expected}; {file}"
    return f"{head}an unknown tensor '{best.unknown[0]}' ({len(best.unknown)} are), {expected}; {file}, or name a part to leave out with --drop"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name}'" for name in names[:3]) + more
