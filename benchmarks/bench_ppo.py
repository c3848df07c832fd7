"""Time a PPO iteration of rlhf_lab beside TRL 0.11.4 and beside its matrix products alone.

    python3 course.py bench             # makes TRL an environment of its own first
    python3 course.py bench --quick     # a few iterations, to see that it runs
    python3 course.py bench --world     # review world: tables, optimum, evaluation, import

"TRL" samples all responses in one batch; "4 at once" is what it does unless told otherwise.
Every peer is a process with one torch thread (see common.py). The rounds are interleaved, so that
a busy moment of the machine meets all of them; compare only within one run. "wall" is what you
wait for; "cpu" leaves out the time in which other programs had the core.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import bench_world
from common import EPOCHS, PROMPT, RESPONSE, SETTINGS

HERE = Path(__file__).resolve().parent
AIMS = {"TRL": 2.0, "floor": 0.5}  # their time over ours, at least


class Peer:
    """A worker process; it starts at once and works only while asked."""

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
    """Refuse to compare what is not comparable."""
    batch = SETTINGS[setting].batch
    expected = {"responses": batch, "tokens": batch * RESPONSE, "gradient steps": EPOCHS}
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


def milliseconds(seconds: list[float]) -> str:
    """Median, minimum and quartiles."""
    q1, _, q3 = statistics.quantiles(seconds, n=4)
    numbers = (statistics.median(seconds), min(seconds), q1, q3)
    return "{:7.1f} (min {:6.1f}, p25–p75 {:6.1f} –{:6.1f})".format(*(1e3 * s for s in numbers))


def ratio(peer: Peer, ours: Peer, clock: int) -> str:
    """Median over the rounds of their median over ours, and its range."""
    values = [a[clock] / b[clock] for a, b in zip(peer.rounds, ours.rounds, strict=True)]
    return f"{statistics.median(values):.2f} ({min(values):.2f} – {max(values):.2f})"


def bench(setting: str, trl_python: str | None, rounds: int, iterations: int) -> None:
    peers: list[Peer] = []
    try:
        peers.append(Peer("rlhf_lab", sys.executable, "ours.py", setting))
        if trl_python:
            peers.append(Peer("TRL", trl_python, "trl_classic.py", setting))
            peers.append(Peer("TRL, 4 at once", trl_python, "trl_classic.py", setting, "4"))
        check_same_work(peers, setting)
        peers.append(Peer("floor", sys.executable, "floor.py", setting))
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
        f"    {size.batch} prompts of {PROMPT} and responses of {RESPONSE} tokens, {EPOCHS} epochs "
        f"of one gradient step; {rounds} x {iterations} iterations, ms"
    )
    for peer in peers:
        print(f"  {peer.name:14s}  wall {milliseconds(peer.wall)}")
        print(f"  {'':14s}  cpu  {milliseconds(peer.cpu)}")
    for peer in others:
        aim = f"   aim: at least {AIMS[peer.name]:g}" if peer.name in AIMS else ""
        wall, cpu = ratio(peer, ours, 0), ratio(peer, ours, 1)
        print(f"  {peer.name + ' / ours':21s}  wall {wall:18s}  cpu {cpu:18s}{aim}")
    if not trl_python:
        print("  TRL was left out: --trl-python names no Python that has it")


def load() -> str:
    """How busy the machine is, where it tells."""
    average = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores{average}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trl-python", help="a Python with benchmarks/requirements-trl.txt")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=10, help="of each peer in a round")
    parser.add_argument("--quick", action="store_true", help="few iterations: does it run at all?")
    parser.add_argument("--world", action="store_true", help="time review world instead")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.iterations = 2, 2
    print(f"{load()} at the start")
    if args.world:
        bench_world.report()
    else:
        for setting in args.settings:
            bench(setting, args.trl_python, args.rounds, args.iterations)
    print(f"\n{load()} at the end")


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError) as error:
        sys.exit(f"benchmark stopped: {error}")
