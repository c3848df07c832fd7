"""Time a PPO iteration of rlhf_lab beside three others: `python3 course.py bench`.

    TRL               PPOTrainer of TRL 0.11.4, sampling all responses in one batch
    TRL, 4 at once    the same, sampling four at a time, which is its default; not at S3
    HF + plain PPO    `generate` of Hugging Face and an update in plain torch
    floor             the matrix products alone

Every peer is a process with one torch thread (see common.py). The rounds are interleaved, so that
a busy moment of the machine affects all of them; compare only within one run. "wall" is the time
that you wait; "cpu" leaves out the time in which other programs had the core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import report
from common import EPOCHS, PROMPT, SETTINGS

HERE = Path(__file__).resolve().parent
AIMS = {  # the least value of their time divided by ours
    "TRL": {"S1": 2.5, "S2": 2.5, "S3": 2.0},
    "floor": dict.fromkeys(SETTINGS, 0.7),
}


class Peer:
    """A worker process; it starts at once and works only when asked."""

    def __init__(self, name: str, python: str, script: str, *arguments: str) -> None:
        self.name, self.script = name, script
        self.rounds: list[tuple[float, float]] = []  # median wall and CPU seconds of each round
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.process = subprocess.Popen(
            [python, str(HERE / script), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.facts = self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.script} ended without an answer; its error is printed above")
        return json.loads(line)

    def iterate(self, n: int) -> None:
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        wall, cpu = self._answer()
        self.rounds.append((statistics.median(wall), statistics.median(cpu)))
        self.wall += wall
        self.cpu += cpu

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def check_same_work(peers: list[Peer], setting: str) -> None:
    """Raise a RuntimeError if the peers do not do the same work."""
    batch = SETTINGS[setting].batch
    tokens = batch * SETTINGS[setting].response
    expected = {"responses": batch, "tokens": tokens, "gradients": EPOCHS}
    for peer in peers:
        for what, number in expected.items():
            if peer.facts[what] != number:
                raise RuntimeError(
                    f"{peer.name} does {peer.facts[what]} {what} per iteration, not {number}"
                )
    for what in ("parameters", "torch"):
        values = {peer.name: peer.facts[what] for peer in peers}
        if len({str(value).split("+")[0] for value in values.values()}) > 1:
            raise RuntimeError(f"the peers differ in {what}: {values}")


def start(setting: str, bench_python: str | None) -> list[Peer]:
    """Start all peers; ours comes first, the floor last."""
    wanted = [("rlhf_lab", sys.executable, "ours.py", setting)]
    if bench_python:
        wanted.append(("TRL", bench_python, "trl_classic.py", setting))
        if setting != "S3":  # where it would take minutes
            wanted.append(("TRL, 4 at once", bench_python, "trl_classic.py", setting, "4"))
        wanted.append(("HF + plain PPO", bench_python, "hf_plain.py", setting))
    peers: list[Peer] = []
    try:
        for arguments in wanted:
            peers.append(Peer(*arguments))
        check_same_work(peers, setting)
        return [*peers, Peer("floor", sys.executable, "floor.py", setting)]
    except BaseException:
        for peer in peers:
            peer.close()
        raise


def bench(setting: str, bench_python: str | None, rounds: int, iterations: int) -> None:
    peers = start(setting, bench_python)
    try:
        for turn in range(rounds):
            for peer in peers if turn % 2 == 0 else reversed(peers):
                peer.iterate(iterations)
    finally:
        for peer in peers:
            peer.close()

    ours, *others = peers
    size = SETTINGS[setting]
    print(
        f"\n{setting}: GPT-2 of {size.layers} layers, width {size.width}, vocabulary {size.vocab}, "
        f"{ours.facts['parameters']:,} parameters with the value head;\n"
        f"    {size.batch} prompts of {PROMPT} and responses of {size.response} tokens, {EPOCHS} "
        f"epochs of one gradient step; {rounds} x {iterations} iterations, ms"
    )
    for peer in peers:
        print(f"  {peer.name:15s} wall {report.spread([1e3 * s for s in peer.wall])}")
        print(f"  {'':15s} cpu  {report.spread([1e3 * s for s in peer.cpu])}")
    for peer in others:
        aim = f"   aim: at least {AIMS[peer.name][setting]:g}" if peer.name in AIMS else ""
        pairs = zip(zip(*peer.rounds, strict=True), zip(*ours.rounds, strict=True), strict=True)
        wall, cpu = (report.ratio(*pair) for pair in pairs)
        print(f"  {peer.name + ' / ours':22s} wall {wall:20s} cpu {cpu:20s}{aim}")
    if not bench_python:
        print("  only the floor: --bench-python names no Python that has TRL and transformers")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench-python", help="a Python with benchmarks/requirements-trl.txt")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--quick", action="store_true", help="few iterations: does it run at all?")
    args = parser.parse_args()
    print(f"{report.load()} at the start")
    for name in args.settings:
        effort = (2, 2) if args.quick else (SETTINGS[name].rounds, SETTINGS[name].iterations)
        bench(name, args.bench_python, *effort)
    print(f"\n{report.load()} at the end")


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError) as error:
        sys.exit(f"benchmark stopped: {error}")
