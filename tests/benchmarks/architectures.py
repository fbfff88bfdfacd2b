"""What `universality zoo new` makes of the architectures of timm and torchvision: writes ``docs/architectures.md``.

    python tests/benchmarks/architectures.py            # all, a quarter of an hour on one core
    python tests/benchmarks/architectures.py timm/test_vit torchvision/resnet18    # prints their rows

One of the smallest of every file of timm, and one of every family of torchvision, with random weights. Nothing is downloaded.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from universality.activations.calibration import calibration_images
from universality.base.errors import UniversalityError
from universality.models import drafting
from universality.models.card import ModelCard
from universality.models.drafting import Asked, draft

TARGET = Path(__file__).parents[2] / "docs" / "architectures.md"
SIZE_PX = 64
TIMM = [
    "beit_base_patch16_224",
    "halonet_h1",
    "test_byobnet",
    "cait_xxs24_224",
    "coat_tiny",
    "convit_tiny",
    "convmixer_768_32",
    "test_convnext",
    "convnextv2_atto",
    "cpubone_nano",
    "crossvit_tiny_240",
    "csatv2",
    "darknet17",
    "cspnext_tiny",
    "davit_tiny",
    "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "densenet121",
    "dla34",
    "dpn68",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientnet_b0",
    "test_efficientnet",
    "test_efficientnet_evos",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "vit_tiny_patch16_dinov3_qkvb",
    "eva02_tiny_patch14_224",
    "fasternet_t0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcresnet33ts",
    "gcvit_xxtiny",
    "gemma4_vit_167m",
    "ghostnet_050",
    "hardcorenas_b",
    "hgnetv2_b0",
    "hiera_tiny_224",
    "sam2_hiera_tiny",
    "hrnet_w18_small",
    "iformer_t",
    "inception_next_atto",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "lcnetv2_small",
    "levit_128",
    "lowformer_b0",
    "test_mambaout",
    "test_coatnet",
    "test_maxvit",
    "poolformer_s12",
    "gmlp_ti16_224",
    "mixer_s32_224",
    "resmlp_12_224",
    "mobilenetv3_small_050",
    "mobilenetv5_base",
    "mobilevit_xxs",
    "mvitv2_tiny",
    "naflexvit_base_patch16_gap",
    "nasnetalarge",
    "nest_tiny",
    "nextvit_small",
    "test_nfnet",
    "nfnet_f0",
    "pit_ti_224",
    "pnasnet5large",
    "pvt_v2_b0",
    "qwen3_vit_88m",
    "rdnet_tiny",
    "regnetx_002",
    "regnety_002",
    "repghostnet_050",
    "repvit_m1",
    "res2next50",
    "resnest14d",
    "test_resnet",
    "resnet18",
    "resnetv2_18",
    "resnetv2_50x1_bit",
    "rexnet_100",
    "selecsls42",
    "legacy_seresnet18",
    "sequencer2d_s",
    "shvit_s1",
    "skresnet18",
    "starnet_s050",
    "swiftformer_xs",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "swinv2_cr_tiny_224",
    "tiny_vit_5m_224",
    "tnt_s_legacy_patch16_224",
    "tresnet_m",
    "twins_svt_small",
    "vgg11",
    "visformer_tiny",
    "test_vit",
    "vit_tiny_patch16_224",
    "vit_tiny_r_s16_p8_224",
    "test_vit_relpos",
    "samvit_base_patch16_224",
    "vitamin_small_224",
    "volo_d1_224",
    "vovnet39a",
    "legacy_xception",
    "xception41p",
    "xcit_nano_12_p8_224",
]
TORCHVISION = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vgg11_bn",
    "vit_b_16",
    "wide_resnet50_2",
    "fcn_resnet50",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "r3d_18",
    "raft_small",
    "quantized_mobilenet_v2",
]
EVERY = [f"timm/{name}" for name in TIMM] + [f"torchvision/{name}" for name in TORCHVISION]
HEAD = """# Architectures

What [`universality zoo new`](how-to/add-a-model.md) makes of {count} architectures of timm {timm} and torchvision {torchvision}, one of the
smallest of every kind, with random weights: {works} work with receptive fields, {mixed} have some taps without one, {whole} work without
receptive fields, {refused} are refused. Inputs are of {size} px, and of the library's own size where the network takes no other;
seconds are those of the processor on one thread, from the name to the card, with no limit on the time for receptive fields. Written by `python tests/benchmarks/architectures.py`.

*Whole image* says that every unit sees all of the input: behind attention and after layers that mix all positions. Such taps take part in all that
needs no receptive field ([what a tap is](how-to/add-a-model.md#what-a-tap-is)).

| architecture | input, px | s | default taps | receptive field, px | untrained twin | outcome |
|---|---|---|---|---|---|---|
"""


def row(model_id: str) -> tuple[str, ...]:
    """Return the row of an architecture."""
    library, _, architecture = model_id.partition("/")
    begun, first = time.process_time(), ""
    for size_px in (SIZE_PX, None):
        try:
            card = draft(Asked(f"own/{architecture}", library, architecture, size_px=size_px), calibration_images)
            return (f"`{model_id}`", *_facts(card, time.process_time() - begun))
        except UniversalityError as error:
            first = first or str(error)
    return f"`{model_id}`", "", f"{time.process_time() - begun:.0f}", "", "", "", f"refused: {first}"


def _facts(card: ModelCard, seconds: float) -> Sequence[str]:
    fields = sorted({tap.rf_px for tap in card.taps if tap.rf_px})
    whole = sum(tap.whole_image for tap in card.taps)
    outcome = (
        "works"
        if not whole
        else "works without receptive field"
        if not fields
        else f"works, {whole} taps without receptive field"
    )
    said = [f"{fields[0]} to {fields[-1]}" if len(fields) > 1 else str(fields[0])] if fields else []
    kinds = sorted(
        {
            tap.kind + (", channels last" if tap.kind == "map" and tap.layout == "channels_last" else "")
            for tap in card.taps
        }
    )
    mended = card.note.partition("(")[2].partition(")")[0] if card.note.startswith("Residual branches") else ""
    twin = (
        card.void_twin.split(" with ")[0].removeprefix("Of an untrained twin ") + " are the identity"
        if card.void_twin
        else ""
    )
    return (
        "x".join(map(str, dict.fromkeys(card.preprocessing.shape[1:]))), f"{seconds:.0f}", f"{len(card.taps)} of {'; '.join(kinds)}",
        ", ".join([*said, *(["whole image"] if whole else [])]), "; ".join(text for text in (f"mended: {mended}" if mended else "", twin) if text), outcome,
    )  # fmt: skip


def page(rows: Sequence[tuple[str, ...]]) -> str:
    """Return the page."""
    import timm
    import torchvision

    ends = [cells[-1] for cells in rows]
    head = HEAD.format(
        count=len(rows), timm=timm.__version__, torchvision=torchvision.__version__.partition("+")[0], size=SIZE_PX,
        works=ends.count("works"), mixed=sum(end.startswith("works, ") for end in ends),
        whole=ends.count("works without receptive field"), refused=sum(end.startswith("refused") for end in ends),
    )  # fmt: skip
    return head + "".join(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n" for cells in rows)


def main() -> None:
    """Write the page, or print the rows of some architectures."""
    torch.set_num_threads(1)
    drafting.MOST_SECONDS = 3600.0  # other work on this machine should leave nothing out
    named = sys.argv[1:]
    rows = []
    for model_id in named or EVERY:
        rows.append(row(model_id))
        print(" | ".join(rows[-1]), flush=True)
    if not named:
        TARGET.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
