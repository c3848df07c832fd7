"""The parts of `bench_gpu.py`, each a process of its own: `python gpu_parts.py S1 --device cuda`.

It prints one JSON line for each result. Every result has "text" for people; a time has "what" was
timed, "on" what, "ms" (the median), "calls" (how many were timed), "peak_mb" (the most memory that
torch had in use on the GPU, else null) and "note" (null, or what it was extrapolated from).
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from common import SETTINGS, Setting
from ours import make

from rlhf_lab import PPOConfig, Trainer, load_world
from rlhf_lab.grids.ensemble import Ensemble
from rlhf_lab.grids.sweep import grid as product

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
ETAS = BETAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
ITERATIONS = 150  # of each run of the grid
# S4 is GPT-2's own size. On a CPU one iteration would take minutes, so there it has fewer rows.
SIZES = {**SETTINGS, "S4": Setting(50257, 768, 12, 12, batch=64, response=48)}
CPU_ROWS = {"S4": 8}
SMALL = {
    "S1": Setting(32, 16, 2, 2, batch=8, response=4),
    "S2": Setting(32, 16, 2, 2, batch=16, response=4),
    "S3": Setting(1025, 16, 2, 2, batch=4, response=4),
    "S4": Setting(1025, 32, 2, 2, batch=16, response=4),
}
OUT = sys.stdout  # what a library prints must not mix with the results


def emit(text: str, **numbers: object) -> None:
    print(json.dumps({"text": text, **numbers}), file=OUT, flush=True)


def cores() -> int:
    """The number that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, from a device that is idle to one that is idle again."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def repeat(
    work: Callable[[], object], device: torch.device, seconds: float, most: int
) -> list[float]:
    """Seconds of several calls after two that warm up: three at least, `most` at most.

    A call that takes all of `seconds` is not repeated: then the first one is the result.
    """
    first = seconds_of(work, device)
    if first > seconds:
        return [first]
    seconds_of(work, device)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < most):
        times.append(seconds_of(work, device))
    return times


def places(device: torch.device, small: bool) -> Iterator[tuple[str, torch.device]]:
    """The device, then the CPU with one thread, which is the course's default, and with all."""
    torch.set_num_threads(1)
    yield "device", device
    for threads in dict.fromkeys((1, 1 if small else cores())):
        torch.set_num_threads(threads)
        yield f"CPU, {threads} thread{'s' * (threads > 1)}", CPU


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.init()  # before it there is no memory to ask about, and torch raises
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_mb(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None


def emit_time(
    what: str, on: str, ms: float, calls: int, peak: float | None, note: str | None = None
) -> None:
    place = "the device" if on == "device" else on
    said = f"{what}: {ms:,.1f} ms on {place}, {calls} timed" + (f"; {note}" if note else "")
    emit(said, what=what, on=on, ms=ms, calls=calls, peak_mb=peak, note=note)


def facts(device: torch.device, small: bool) -> None:
    """What the numbers depend on."""
    if device.type == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda
        reason = f"a build for CUDA {built}" if built else "a build without CUDA"
        sys.exit(
            f"torch {torch.__version__}, {reason}, finds no NVIDIA GPU. To try the script without "
            "one, in small: python3 course.py bench gpu --device cpu --small"
        )
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    cpu = next((x.split(": ")[1] for x in lines if x.startswith("model name")), platform.machine())
    emit(
        f"{gpu.name if gpu else device}, torch {torch.__version__}; CPU: {cpu}, {cores()} cores",
        device=gpu.name if gpu else str(device),
        device_mb=gpu.total_memory / 1e6 if gpu else None,
        cpu=cpu,
        cores=cores(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        float32=torch.get_float32_matmul_precision(),  # "highest": no TF32
        python=platform.python_version(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def tests(device: torch.device, small: bool) -> None:
    """tests/test_cuda.py, without the options of pyproject.toml, which need more packages."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import pytest

    reports: list[pytest.TestReport] = []

    class Listen:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.when == "call" or report.outcome != "passed":
                reports.append(report)

    options = ["-q", "-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    code = pytest.main([*options, str(ROOT / "tests" / "test_cuda.py")], plugins=[Listen()])
    outcomes = {report.nodeid: report.outcome for report in reports}
    counts = {o: list(outcomes.values()).count(o) for o in ("passed", "failed", "skipped")}
    emit(", ".join(f"{n} {o}" for o, n in counts.items()), **counts, tests=outcomes)
    if code != 0 or (device.type == "cuda" and counts["skipped"]):
        bad = [name for name, outcome in outcomes.items() if outcome != "passed"]
        raise RuntimeError(f"pytest ended with code {int(code)}; not passed: {', '.join(bad)}")


def trajectories(device: torch.device, small: bool) -> None:
    """One seed of review world, on the device and on the CPU, and twice on the device."""
    iterations = 3 if small else 100
    compare("float64, device and CPU", (device, CPU), "float64", iterations)
    compare("float32, device and CPU", (device, CPU), "float32", iterations)
    compare("float32, twice on the device", (device, device), "float32", iterations)


def compare(what: str, pair: tuple[torch.device, ...], dtype: str, iterations: int) -> None:
    """For how many iterations two runs give the same responses, and how far the records differ."""
    world = load_world()
    runs = [
        Trainer(world, PPOConfig(eta=0.3, seed=3, dtype=dtype, device=str(device)))  # type: ignore
        for device in pair
    ]
    same, until_then, in_all = 0, {}, {}
    for iteration in range(iterations):
        records = [run.step() for run in runs]
        a, b = (run.rollout.responses.cpu() for run in runs)
        if same == iteration and torch.equal(a, b):
            same += 1
        for name, x, y in zip(records[0]._fields, *records, strict=True):
            in_all[name] = max(in_all.get(name, 0.0), abs(x - y))
        if same == iteration + 1:
            until_then = dict(in_all)
    emit(
        f"{what}: the same responses in the first {same} of {iterations} iterations; the records "
        f"differ by {largest(until_then)} until then, by {largest(in_all)} in all",
        what=what, same=same, iterations=iterations, until_then=until_then, in_all=in_all,
    )  # fmt: skip


def largest(differences: dict[str, float]) -> str:
    if not differences:
        return "nothing known"
    name = max(differences, key=lambda name: differences[name])
    return f"at most {differences[name]:.1e} ({name})" if differences[name] else "0"


def size(name: str, device: torch.device, small: bool) -> None:
    """A PPO iteration of one size, as `course.py bench` has it."""
    whole = (SMALL if small else SIZES)[name]
    limits = (0.3, 3) if small else (8.0, 30)
    what = (
        f"{name}: V {whole.vocab:,}, {whole.layers} layers of {whole.width}, {whole.batch} "
        f"responses of {whole.response} tokens"
    )
    for on, place in places(device, small):
        rows = CPU_ROWS.get(name, whole.batch) if place == CPU else whole.batch
        forget_peak(place)
        iterate, _ = make(whole._replace(batch=rows), place)
        times = repeat(iterate, place, *limits)
        ms = 1e3 * statistics.median(times) * whole.batch / rows
        fewer = f"extrapolated from {rows} of {whole.batch} responses"
        note = fewer if rows < whole.batch else None
        emit_time(what, on, ms, len(times), peak_mb(place), note)
        del iterate


def grid(device: torch.device, small: bool) -> None:
    """8 x 8 runs of review world, as one batch and one by one; an iteration of all of them.

    The device really does all iterations of the grid as one batch. All else is extrapolated.
    """
    world, iterations = load_world(), 3 if small else ITERATIONS
    etas, betas = (ETAS[:2], BETAS[:2]) if small else (ETAS, BETAS)
    for on, place in places(device, small):
        configs = product(etas, betas, [0], device=str(place), batch_size=8 if small else 128)
        n, limits = len(configs), (120.0, iterations) if on == "device" else (10.0, 5)
        forget_peak(place)
        ensemble = Ensemble(world, configs)
        times = repeat(ensemble.step, place, *limits)
        ms = 1e3 * statistics.median(times)
        emit_time(f"{n} runs as one batch", on, ms, len(times), peak_mb(place))
        if ensemble.errors:
            raise RuntimeError(f"{len(ensemble.errors)} runs failed: {ensemble.errors}")
        del ensemble
        forget_peak(place)
        chosen = [configs[i] for i in (0, n // 2, n - 1)]
        limits = 4.0, 3 if small else 20
        alone = [s for c in chosen for s in repeat(Trainer(world, c).step, place, *limits)]
        single = 1e3 * statistics.median(alone)
        note = f"extrapolated from {len(chosen)} runs: {n} x {single:.4g} ms"
        emit_time(f"{n} runs one by one", on, n * single, len(alone), peak_mb(place), note)
        whole = f"{ms * iterations / 1e3:,.1f} s as one batch, extrapolated"
        if len(times) >= iterations:
            whole = f"{sum(times):,.1f} s as one batch, measured"
        emit(
            f"{iterations} iterations of {n} runs on {on}: {whole}; "
            f"{n * single * iterations / 1e3:,.1f} s one by one, extrapolated"
        )


PARTS = {"facts": facts, "tests": tests, "trajectories": trajectories, "grid": grid}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*PARTS, *SIZES])
    parser.add_argument("--device", type=torch.device, default="cuda")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    sys.stdout = sys.stderr
    try:
        if args.part in SIZES:
            size(args.part, args.device, args.small)
        else:
            PARTS[args.part](args.device, args.small)
    except Exception as error:
        words = str(error).splitlines() or [""]
        emit("failed", error=f"{type(error).__name__}: {words[0][:300]}")
        raise


if __name__ == "__main__":
    main()
