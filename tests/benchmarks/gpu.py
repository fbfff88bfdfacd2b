"""What only a GPU can show, part by part into one JSON file: run it with ``tests/benchmarks/gpu.sh``.

Each part is a function of the device. Without a GPU it runs on the CPU with smaller shapes, so that it is known to work, and
what a GPU would have told is listed under ``not_run``.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from all_pairs_speed import activations

from universality import compare_all
from universality.activations import devices, extraction
from universality.activations.spec import ExtractionSpec
from universality.jobs.shards import Loaded
from universality.models import catalogue, hooks, zoo
from universality.similarity.all_pairs.plan import operations

MODEL, TAPS = "package/efficientnet_lite0", ("blocks.2.1.bn2", "blocks.3.1.bn2", "blocks.4.1.bn2")
ROUNDS = 3
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


def best(work: Callable[[], object], device: torch.device) -> float:
    """Return the shortest of some times, s, after one that warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return min(times[1:])


def gpu_tests(device: torch.device, seconds: float) -> dict[str, Any]:
    """Run the tests that wait for a GPU; on a CPU they are collected and skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "0",
            "-q",
            f"--junitxml={report}",
            "tests/test_activations_devices.py",
        ]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        if not report.exists():
            return {"failed": ended.stdout[-2000:] + ended.stderr[-2000:]}
        cases = list(ElementTree.parse(report).iter("testcase"))
    waiting = [case for case in cases if "TestOnAGpu" in case.get("classname", "")]
    named = {
        kind: [case.get("name") for case in cases if case.find(kind) is not None]
        for kind in ("failure", "error", "skipped")
    }
    return {"tests": len(cases), "for_a_gpu": len(waiting), **named}


def extracting(device: torch.device, seconds: float) -> dict[str, Any]:
    """Measure extraction against the bare forward pass on the same device, and its values against the CPU's."""
    card, images = catalogue.card(MODEL), 1024 if device.type == "cuda" else 32
    spec = ExtractionSpec(reduction="center", device=device.type)
    taps, size = [card.tap(name) for name in TAPS], card.preprocessing.size_px
    shown = np.random.default_rng(0).random((images, 3, size, size), dtype=np.float32)
    batches = [shown[start : start + spec.batch_size] for start in range(0, images, spec.batch_size)]
    original = zoo.pretrained(card).to(memory_format=torch.channels_last)
    network = Loaded(devices.copied(original, device) if device.type == "cuda" else original).shared()

    def stop(*_: object) -> None:
        raise hooks.StopForward

    def bare() -> None:
        handle = hooks.module_at(network, TAPS[-1]).register_forward_hook(stop)
        try:
            with torch.inference_mode():
                for batch in batches:
                    moved = torch.from_numpy(batch).to(device).contiguous(memory_format=torch.channels_last)
                    hooks.forward(network, moved)
        finally:
            handle.remove()

    def recorded(module: torch.nn.Module, some: list[np.ndarray]) -> Any:
        return extraction.collect(extraction.extract(module, taps, some, spec, size))

    with devices.repeatable():
        times = {"bare": best(bare, device), "extraction": best(lambda: recorded(network, batches), device)}
        theirs, ours = recorded(original, batches[:1]), recorded(network, batches[:1])
    return {
        "model": MODEL,
        "images": images,
        "images_per_s": {name: images / took for name, took in times.items()},
        "extraction_of_bare": times["bare"] / times["extraction"],
        "largest_difference_from_cpu_of_largest_value": {
            name: float(np.abs(ours[name] - theirs[name]).max() / np.abs(theirs[name]).max()) for name in theirs
        },
    }


def all_pairs(device: torch.device, seconds: float) -> dict[str, Any]:
    """Measure `compare_all` as a share of the device's own rate of float32 products, plain and (on a GPU) as TF32."""
    on_gpu = device.type == "cuda"
    taps, stimuli, units = (64, 10_000, 1024) if on_gpu else (16, 1000, 128)
    side = 8192 if on_gpu else 1024
    needed = min(operations(stimuli, [units] * taps).values())
    generator = torch.Generator(device).manual_seed(0)
    layers = {
        f"tap{i}": torch.randn(stimuli, units, device=device, generator=generator).clamp_(min=0) for i in range(taps)
    }
    square = torch.randn(side, side, device=device, generator=generator)
    few = activations(16, 1000, 128)
    moved = {name: torch.from_numpy(x).to(device) for name, x in few.items()}
    measures = ("cka_linear_debiased", "svcca_variance99", "procrustes_orthogonal", "rsa_correlation_pearson")
    exact = compare_all(few, measures, dtype="float64")
    found: dict[str, Any] = {"taps": taps, "stimuli": stimuli, "units": units, "flop": needed}
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        for name, fast in (("float32", False), ("tf32", True))[: 2 if on_gpu else 1]:
            torch.backends.cuda.matmul.allow_tf32 = fast
            peak = 2.0 * side**3 / best(lambda: square @ square, device)
            took = best(lambda: compare_all(layers, memory_limit="16 GiB"), device)
            rough = compare_all(moved, measures)
            found[name] = {
                "matmul_tflops": peak / 1e12,
                "compare_all_s": took,
                "share_of_matmul": needed / took / peak,
                "largest_difference_from_float64": {
                    one: float(np.abs(rough.values[one] - exact.values[one]).max()) for one in measures
                },
            }
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return found


PARTS = {"tests": gpu_tests, "extraction": extracting, "compare_all": all_pairs}
ONLY_ON_A_GPU = {
    "tests": "the tests of tests/test_activations_devices.py that need a GPU",
    "extraction": "extraction on cuda against the bare forward pass and against the CPU's values",
    "compare_all": "compare_all as a share of a GPU's float32 and TF32 products",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--seconds", type=float, default=450.0, help="no part begins later than this")
    options = parser.parse_args()
    begun, there = time.perf_counter(), torch.cuda.is_available()
    device = GPU if there else CPU
    found: dict[str, Any] = {
        "device": devices.name_of(GPU) if there else f"CPU ({platform.machine()})",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "parts": {},
        "not_run": dict.fromkeys(PARTS, "the time ended before it"),
    }

    def write() -> None:
        options.result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

    write()
    for name, part in PARTS.items():
        left = options.seconds - (time.perf_counter() - begun)
        if left <= 0:
            continue
        try:
            found["parts"][name] = part(device, left)
        except Exception as error:  # a part that fails is a result; the others are still worth having
            found["parts"][name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
        del found["not_run"][name]
        if not there:
            found["not_run"][ONLY_ON_A_GPU[name]] = "Torch finds no GPU here"
        found["seconds"] = round(time.perf_counter() - begun, 1)
        write()


if __name__ == "__main__":
    main()
