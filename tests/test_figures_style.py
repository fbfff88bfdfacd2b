"""Names that do not fit: broken, abbreviated to what tells them apart, or numbered, and always resolved. And the bytes of files."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from universality.figures.style import Labels, distinct, encoded, fitted, key_of, plain, style, text_mm, wrapped
from universality.runs.provenance import in_figure

LONG = [f"timm/vit_base_patch16_clip_quickgelu_224.metaclip_400m_ft_in12k_in1k_seed{seed}" for seed in range(12)]


def whole(found, name):
    """What a reader makes of a label: it reads on in the next line, and the key resolves it."""
    label = found.of[name]
    return found.key.get(label, label.replace("\n", ""))


@pytest.mark.parametrize("lines", [1, 3])
@pytest.mark.parametrize("width_mm", [90.0, 60.0, 35.0, 25.0, 15.0, 10.0, 5.0])
def test_labels_fit_tell_names_apart_and_are_resolved(width_mm, lines):
    names = [*LONG, "own/vgg", "own/vgg_seed1", LONG[1].replace("400m", "2pt5b")]
    found = fitted(names, width_mm, points=6, lines=lines)
    assert len(set(found.of.values())) == len(names)
    assert [whole(found, name) for name in names] == [name.split("/")[1] for name in names]
    assert all(label.count("\n") < lines for label in found.of.values())
    widest = max(text_mm(line, 6) for label in found.of.values() for line in label.split("\n"))
    assert widest <= width_mm
    assert any(label.startswith("[") for label in found.of.values()) == (width_mm < 20)


def test_an_abbreviation_belongs_to_one_name_only():
    # Parts of random names, so that any may be told apart by its beginning, its middle, its end, or by none of them alone.
    rng = np.random.default_rng(5)
    names = sorted({"_".join(f"part{k}" for k in rng.integers(0, 25, 9)) for _ in range(40)})
    found = fitted(names, 40.0, points=6)
    assert [whole(found, name) for name in names] == names
    abbreviated = {label: name for label, name in found.key.items() if not label.startswith("[")}
    assert len(found.key) == len(names) and len(abbreviated) >= 10
    for label, name in abbreviated.items():
        kept = {part for part in label.replace("…", "_").split("_") if part}
        assert [other for other in names if kept <= set(other.split("_"))] == [name]


def test_ordinary_names_stay_as_they_are():
    assert fitted(["package/efficientnet_lite0", "pocket/vgg-focus-s1"], 30.0, points=6.5) == Labels(
        {"package/efficientnet_lite0": "efficientnet_lite0", "pocket/vgg-focus-s1": "vgg-focus-s1"}, {}
    )


def test_what_would_be_called_the_same_is_called_in_full():
    assert list(distinct(["features.1", "features.1.bn2", "features.2.bn2"], plain).values()) == [
        "features.1", "features.1.bn2", "features.2",
    ]  # fmt: skip


def test_a_sentence_breaks_a_long_name_behind_what_joins_its_parts():
    first, *broken, last = wrapped(f"pairs of {LONG[0]}, and others", 40.0).split("\n")
    assert first == "pairs of" and "".join([*broken, last]).replace(" ", "") == f"{LONG[0]},andothers"
    *broken, _ = [line for line in broken if "_" in line]
    assert len(broken) >= 2 and all(line[-1] in "_./" for line in broken)


def test_a_key_that_has_no_room_says_where_the_names_are():
    entries = {f"…{k}": name for k, name in enumerate(LONG)}
    assert all(name in key_of(entries, 180.0) for name in LONG)
    assert "the table has them in full" in key_of(entries, 180.0, most_mm=5.0)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_file_is_the_one_that_matplotlib_writes_of_the_figure(suffix):
    """Though it is drawn once instead of twice; a second file of the same figure too."""

    def drawn():
        with style():
            figure = Figure(figsize=(3, 2), layout="constrained")
            for place, ax in enumerate(figure.subplots(1, 2)):
                ax.plot([0, 1e6], [0, 1e-9], label=f"line {place}")
                ax.set_ylabel("a label as long as the axes are high")
            figure.legend(loc="outside lower center")
            figure.suptitle("two\nlines")
        return figure

    def saved(figure):
        content = io.BytesIO()
        with style():
            dpi = 300 if suffix == ".png" else "figure"
            figure.savefig(content, format=suffix[1:], dpi=dpi, metadata=in_figure(suffix, None, "kind", "caption"))
        return content.getvalue()

    ours, theirs = drawn(), drawn()
    for _ in range(2):
        assert encoded(ours, suffix, kind="kind", caption="caption") == saved(theirs)
    assert "draw" not in vars(ours)
