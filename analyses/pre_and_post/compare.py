"""Write compare.csv: tuning of the same units before and behind their nonlinearity, trained and untrained.

Run the job of this folder first, then ``python analyses/pre_and_post/compare.py RUN``.
"""

import sys
from pathlib import Path

import pandas as pd

import universality

HERE = Path(__file__).parent
STATISTICS = ("r1", "fwhm_deg", "echo", "peak_sigma", "invariance")


def main(folder):
    """Write the CSV beside this file: medians over live units, and over units that are detectors behind the nonlinearity."""
    units = universality.open_run(folder).units
    side = units["tap"].str.extract(r":(pre|post)$")[0].fillna("post")
    units = units.assign(side=side, place=units["tap"].str.replace(r":(pre|post)$", "", regex=True))
    same = ["model", "seed", "place", "family", "unit"]
    behind = units[units["side"] == "post"].set_index(same)[["detector", "live"]].add_suffix("_post")
    units = units.join(behind, on=same)
    rows = []
    for keys, layer in units.groupby(["family", "model", "place", "seed", "side"], sort=False):
        live, chosen = layer[layer["live"] & layer["live_post"]], layer[layer["detector_post"]]
        row = dict(zip(("family", "model", "tap", "seed", "side"), keys, strict=True))
        row |= {"units": len(layer), "live": int(layer["live"].sum()), "detectors": int(layer["detector"].sum())}
        row |= {"both_sides": int((layer["detector"] & layer["detector_post"]).sum())}
        row |= {f"{name}_live": live[name].median() for name in STATISTICS}
        row |= {f"{name}_detectors": chosen[name].median() for name in STATISTICS}
        rows.append(row)
    pd.DataFrame(rows).to_csv(HERE / "compare.csv", index=False, float_format="%.3f")


if __name__ == "__main__":
    main(sys.argv[1])
