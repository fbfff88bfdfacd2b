"""Natural examples of any unit of a finished run, and of what stands for chance beside a matched unit."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from universality.activations.layer import Layer, LayerRef, load_layer
from universality.activations.network import Network
from universality.base.arrays import standardised
from universality.base.errors import RunError, did_you_mean
from universality.features import examples
from universality.features.examples import Looked
from universality.runs.layers import references
from universality.runs.networks import networks_of
from universality.similarity import correlations

if TYPE_CHECKING:
    from universality.runs.run import Run

EXAMPLE = "example"
_OF_A_UNIT = ("model", "tap", "unit", "value", "sigma")


class Gallery:
    """The natural examples of a run's units. What a network answers to whole pictures is read, or computed and kept, when it is first asked for."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._layers: dict[tuple[str, str], Layer] = {}
        self._seen: dict[tuple[str, str], Looked] = {}
        self._small: dict[tuple[str, str], examples.Thumbnails] = {}
        self._turned: dict[tuple[str, str], NDArray[np.float64]] = {}

    def of_unit(self, model: str, tap: str, unit: int, size_px: int | None = None) -> xr.Dataset:
        """Return the examples of one unit: see `Run.examples`."""
        network, ref = self.layer_of(model, tap, unit)
        rows = self.rows_of(model, tap, unit)
        return self._dataset(network, ref, rows, size_px).assign_attrs(model=model, tap=tap, unit=unit)

    def is_kept(self, model: str, tap: str) -> bool:
        """Return whether what a tap answers to whole pictures lies in the store, so that its examples need no network."""
        network, ref = self.layer_of(model, tap, 0)
        return (model, tap) in self._seen or examples.is_kept(network, ref, self._run.job.seed)

    def rows_of(self, model: str, tap: str, unit: int) -> pd.DataFrame:
        """Return the rows of the table ``examples`` of one unit, whether or not the run has that table."""
        network, ref = self.layer_of(model, tap, unit)
        deviation = self.layer(model, tap).natural.std(axis=0)
        rows = examples.example_rows(network, ref.tap, self._looked(network, ref).units, [unit], deviation)
        if rows.empty:
            raise RunError(
                f"unit {unit} of '{model}' at '{tap}' answers the same to every whole picture, so it has no examples; choose another"
            )
        return rows

    def of_null(self, unit: tuple[str, str, int], model: str, tap: str, size_px: int | None = None) -> xr.Dataset:
        """Return the examples of the random direction of a layer that resembles a unit of another network most.

        It is what a matched unit has to be better than: of one Haar-random basis of the layer's standardised units, chosen on
        fold 0 of the job's natural images as a matched unit is. Attributes `r_match` and `r_natural` are its correlations with the unit
        on fold 0 and on fold 1; `unit` is the number of the direction.
        """
        self.layer_of(*unit)
        one = self.layer(unit[0], unit[1])
        network, ref = self.layer_of(model, tap, 0)
        if not one.live[unit[2]]:
            raise RunError(
                f"unit {unit[2]} of '{unit[0]}' at '{unit[1]}' does not vary over both halves of the natural images, so no direction resembles "
                "it; choose another"
            )
        if (model, tap) not in self._turned:
            seen = self.layer(model, tap).standardised().in_random(0, self._run.job.seed)
            self._turned[model, tap] = seen.natural
        turned = self._turned[model, tap]
        own, decides = one.natural[:, [unit[2]]], one.fold == 0
        r_match = correlations(standardised(own[decides]), standardised(turned[decides]))[0]
        best = int(r_match.argmax())
        r_natural = correlations(standardised(own[~decides]), standardised(turned[~decides][:, [best]]))[0, 0]
        rows = examples.example_rows(network, ref.tap, self._looked(network, ref).haar, [best])
        found = self._dataset(network, ref, rows, size_px or examples.THUMBNAIL_PX, kept=False)
        return found.assign_attrs(
            model=model, tap=tap, unit=best, basis="haar 0", r_match=float(r_match[best]), r_natural=float(r_natural)
        )

    def layer_of(self, model: str, tap: str, unit: int) -> tuple[Network, LayerRef]:
        """Return the network and the layer of a unit; raise `RunError` if the run has no such model, tap or unit."""
        if model not in self._networks:
            raise RunError(
                f"run '{self._run.path}' has no model '{model}', expected one of {', '.join(self._networks)}{did_you_mean(model, self._networks)}"
            )
        refs = self._refs[model]
        if tap not in refs:
            raise RunError(
                f"run '{self._run.path}' has no tap '{tap}' of '{model}', expected one of {', '.join(refs)}{did_you_mean(tap, refs)}"
            )
        units = refs[tap].width
        if not 0 <= unit < units:
            raise RunError(
                f"run '{self._run.path}' has no unit {unit} of '{model}' at '{tap}', expected 0 to {units - 1}; choose another"
            )
        return self._networks[model], refs[tap]

    @cached_property
    def _networks(self) -> dict[str, Network]:
        return {network.card.id: network for network in networks_of(self._run.job) if network.trained}

    @cached_property
    def _refs(self) -> dict[str, dict[str, LayerRef]]:
        found: dict[str, dict[str, LayerRef]] = {}
        for ref in references(self._run):
            if ref.seed is None:
                found.setdefault(ref.model, {})[ref.tap.name] = replace(ref, stores={"natural": ref.stores["natural"]})
        return found

    def layer(self, model: str, tap: str) -> Layer:
        """Return what a layer answers to the job's natural images."""
        if (model, tap) not in self._layers:
            self._layers[model, tap] = load_layer(self.layer_of(model, tap, 0)[1])
        return self._layers[model, tap]

    def _looked(self, network: Network, ref: LayerRef) -> Looked:
        key = ref.model, ref.tap.name
        if key not in self._seen:
            # All taps at once: a second look costs as much as the first.
            refs = list(self._refs[ref.model].values())
            seen = examples.maxima(network, refs, self._run.job.seed, lambda ref: self.layer(ref.model, ref.tap.name))
            self._seen |= {(ref.model, name): looked for name, looked in seen.items()}
        return self._seen[key]

    def _thumbnails(self, network: Network, ref: LayerRef) -> examples.Thumbnails:
        key = ref.model, ref.tap.name
        if key not in self._small:
            of = examples.key_of(network, ref, self._run.job.seed)
            self._small[key] = examples.Thumbnails(ref.store_root, of, network.stimuli.natural)
        return self._small[key]

    def _dataset(
        self, network: Network, ref: LayerRef, rows: pd.DataFrame, size_px: int | None, *, kept: bool = True
    ) -> xr.Dataset:
        spec = network.stimuli.natural
        pictures: list[NDArray[np.uint8]]
        if kept and size_px in (None, examples.THUMBNAIL_PX):
            pictures = [examples.decoded(content) for content in self._thumbnails(network, ref).of(rows)]
        else:
            pictures = [np.asarray(examples.cut_of(spec, row, size_px or 1)) for row in rows.to_dict("records")]
        labels = {name: (EXAMPLE, rows[name].to_numpy()) for name in rows if name not in _OF_A_UNIT}
        return xr.Dataset(
            {
                "image": ((EXAMPLE, "y", "x", "channel"), np.stack(pictures)),
                "value": (EXAMPLE, rows["value"].to_numpy(), {"units": "a.u."}),
                "sigma": (EXAMPLE, rows["sigma"].to_numpy(), {"units": "sigma"}),
            },
            coords=labels,
        )
