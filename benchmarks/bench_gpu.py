"""What a GPU does for the course, in at most ten minutes: `python3 course.py bench gpu`.

It runs on a bare machine, with the Python that you start it with. That needs torch, numpy,
safetensors and filelock, and pytest for the tests; nothing is installed, no network is used. Each
part is a process of its own (`gpu_parts.py`), so a part that fails leaves the others a GPU that
works. A part is left out if the time that is left is less than it usually needs.

    tests         tests/test_cuda.py: the GPU gives the CPU's numbers
    trajectories  one seed on the GPU and on the CPU: for how many iterations all responses are the
                  same, token for token, and how far the records are apart; also twice on the GPU
    S1 to S4      ms of a PPO iteration of the sizes in benchmarks/README.md
    grid          an iteration of 64 runs of review world, 8 x 8 (η, β), as one batch
                  (`grids.ensemble`) and one by one

Times are wall time, medians of several calls after two to warm up (of a single call, where that
takes more than 8 s); the GPU is waited for before and after each. "CPU / GPU" takes the CPU's best
time, with one thread, which is the course's default, or with one per core. "peak" is the most
memory that torch had in use on the GPU. `--out` gets the table, gpu.md, and all numbers, gpu.json,
anew after each part. The exit code is 1 if a part failed, 2 if nothing could be run.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NEEDED = ("torch", "numpy", "safetensors", "filelock")
PARTS = {  # seconds that must be left to start one, those of most worth first; --small: a tenth
    "tests": 60,
    "trajectories": 60,
    "S1": 20,
    "S2": 30,
    "S3": 60,
    "grid": 100,
    "S4": 130,
}


def do(name: str, command: list[str], limit: float, start: float) -> dict:
    """Do a part in a process of its own, and print its results as they come."""
    part = {"state": "done", "seconds": 0.0, "error": None, "results": []}
    paths = [str(ROOT), os.environ.get("PYTHONPATH")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUTF8": "1"}
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=env) as process:
        timer = threading.Timer(limit, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                if (result := parsed(line)) is None:
                    continue
                part["error"] = result.get("error")
                part["results"] += [] if part["error"] else [result]
                say(start, name, result["text"].removeprefix(f"{name}: "))
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    part["seconds"] = time.perf_counter() - begin
    if process.returncode != 0:
        late = part["seconds"] >= limit
        why = f"stopped after {limit:.0f} s" if late else f"ended with code {process.returncode}"
        part |= {"state": "failed", "error": part["error"] or why}
        say(start, name, f"failed: {part['error']}")
    return part


def parsed(line: str) -> dict | None:
    """A result, or None for what a library printed or a killed process could not end."""
    try:
        result = json.loads(line)
    except ValueError:
        return None
    return result if isinstance(result, dict) and "text" in result else None


def say(start: float, name: str, text: str) -> None:
    print(f"{time.perf_counter() - start:6.1f} s  {name}: {text}", flush=True)


def command(part: str, args: argparse.Namespace) -> list[str]:
    small = ["--small"] if args.small else []
    return [sys.executable, str(HERE / "gpu_parts.py"), part, "--device", args.device, *small]


def do_all(report: dict, args: argparse.Namespace, start: float) -> None:
    """Each part that fits into the time that is left; writes both files after each."""
    for name in args.parts:
        left, needs = args.seconds - (time.perf_counter() - start), PARTS[name]
        needs = needs / 10 if args.small else needs
        if left < needs:
            why = f"it needs about {needs:.0f} s, {max(left, 0):.0f} s are left"
            part = {"state": "skipped", "seconds": 0.0, "error": why, "results": []}
            say(start, name, f"skipped: {why}")
        else:
            say(start, name, "starts")
            part = do(name, command(name, args), left, start)
        report["parts"][name] = part
        report["seconds"] = time.perf_counter() - start
        (args.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (args.out / "gpu.md").write_text(table(report), encoding="utf-8")


def table(report: dict) -> str:
    """The report as Markdown: where and when, the times, and what became of each part."""
    build = f"CUDA {report['cuda']}" if report["cuda"] else "no CUDA"
    head = (
        f"**{report['device']}**, torch {report['torch']} ({build}), Python {report['python']}; "
        f"CPU: {report['cpu']}, {report['cores']} cores; {report['date'][:10]}, "
        f"{report['seconds']:.0f} s in all."
    )
    if report["small"]:
        head += " Tiny sizes: this says whether all runs, not how fast."
    rows = [row for part in report["parts"].values() for row in part["results"]]
    return "\n".join([head, "", *times(rows, report["device"]), "", *outcomes(report["parts"]), ""])


def times(rows: list[dict], device: str) -> list[str]:
    """The table of times, one row for each thing that was timed."""
    timed = [row for row in rows if "ms" in row]
    cpus = list(dict.fromkeys(row["on"] for row in timed if row["on"] != "device"))
    heads = ["ms an iteration", device, *cpus, "CPU / GPU", "peak on the GPU, MB"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for what in dict.fromkeys(row["what"] for row in timed):
        by = {row["on"]: row for row in timed if row["what"] == what}
        cells = [cell(by.get(on)) for on in ("device", *cpus)]
        best = min((by[on]["ms"] for on in cpus if on in by), default=None)
        ratio = f"{best / by['device']['ms']:.2f}" if best and "device" in by else "–"
        peak = by.get("device", {}).get("peak_mb")
        cells += [ratio, "–" if peak is None else f"{peak:,.0f}"]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return [*lines, "", "≈: extrapolated; the table below says from what."]


def cell(row: dict | None) -> str:
    return "–" if row is None else f"{'≈ ' if row['note'] else ''}{row['ms']:,.1f}"


def outcomes(parts: dict[str, dict]) -> list[str]:
    """The table of parts: how each ended, and what it found."""
    lines = ["| part | | took, s |", "|---|---|---|"]
    for name, part in parts.items():
        said = [row["text"] for row in part["results"] if "ms" not in row]
        noted = [row for row in part["results"] if row.get("note")]
        said += [f"{r['what'].split(':')[0]} on {r['on']}: {r['note']}" for r in noted]
        ended = part["state"] + (f": {part['error']}" if part["error"] else "")
        text = "<br>".join([ended, *said]).replace("|", "\\|")
        lines.append(f"| {name} | {text} | {part['seconds']:.0f} |")
    return lines


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or, to try the script, cpu")
    parser.add_argument("--small", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--seconds", type=float, default=540, help="for all (default: 540)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=ROOT / "gpu-bench", help="folder for results")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args, start = arguments(argv), time.perf_counter()
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(
            f"{sys.executable} has no {', no '.join(missing)}: start this with a Python that has "
            f"{', '.join(NEEDED)}, or install them into this one.",
            file=sys.stderr,
        )
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    facts = do("facts", command("facts", args), 120, start)
    if facts["state"] == "failed":
        return 2
    report = {**facts["results"][0], "small": args.small, "budget": args.seconds, "parts": {}}
    del report["text"]
    do_all(report, args, start)
    print(f"\n{table(report)}\nBoth files are in {args.out}.")
    return int(any(part["state"] == "failed" for part in report["parts"].values()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"benchmark stopped: {error}")
