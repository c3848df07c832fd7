"""How time and memory grow with each size: `python3 course.py bench growth`. One torch thread.

Every line is measured in a new process, because the peak memory of a process never falls. The
first line of a table is the starting point; each other line changes one size.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import report
import torch
from common import ETA, LR, SEED, SETTINGS
from ours import EvenTokens

from rlhf_lab import GPT2, GPT2Config, PPOConfig, Trainer, exact
from rlhf_lab.gpt2 import ScalarHead
from rlhf_lab.tree import score_tables
from rlhf_lab.world import policy_tables

START = SETTINGS["S1"]
GROWN = {
    "batch": (640, 6400),
    "response": (80, 800),
    "vocab": (320, 3200, 32000),
    "width": (640,),
    "layers": (20,),
}
LENGTHS = (3, 4, 5, 6)
"""Lengths of responses in 14 words, as in review world; there are 13 times as many per word."""
PATIENCE = 20.0  # seconds after which a measurement is not repeated


def peak_mb() -> float:
    """Peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def seconds(work: Callable[[], object]) -> float:
    """Median time of a few calls; the first one warms up and only counts if it is the only one."""
    times: list[float] = []
    while len(times) < 3 or (sum(times) < PATIENCE / 4 and len(times) < 20):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
        if sum(times) > PATIENCE:
            break
    return statistics.median(times[1:] or times)


def ppo(**sizes: int) -> list[float]:
    """Seconds of one PPO iteration, and MB."""
    setting = START._replace(**sizes)
    config = PPOConfig(eta=ETA, lr=LR, batch_size=setting.batch, seed=SEED)
    trainer = Trainer(EvenTokens(setting), config)
    return [seconds(trainer.step), peak_mb()]


@torch.no_grad()
def enumeration(length: int) -> list[float]:
    """Responses; seconds of π's tables, of the scores, of the optimum, of E, KL and H; MB."""
    sizes = GPT2Config(14, n_positions=length + 1, n_embd=32, n_layer=2, n_head=2)
    model, prompt = GPT2(sizes, torch.Generator().manual_seed(SEED)), torch.tensor([1])
    logprobs = exact.sequence_logprobs(policy_tables(model, prompt, length))
    head = ScalarHead(sizes.n_embd)
    scores = exact.flatten(score_tables(model, head, prompt, length)).double()
    return [
        len(logprobs),
        seconds(lambda: policy_tables(model, prompt, length)),
        seconds(lambda: score_tables(model, head, prompt, length)),
        seconds(lambda: exact.optimum(logprobs, scores, 0.3, 0.1)),
        seconds(lambda: exact.evaluate(logprobs, logprobs, scores, scores)),
        peak_mb(),
    ]


def alone(kind: str, **sizes: int) -> list[float]:
    """The result of `ppo` or `enumeration` in a new process."""
    run = subprocess.run(
        [sys.executable, __file__, kind, json.dumps(sizes)], stdout=subprocess.PIPE, check=True
    )
    numbers: list[float] = json.loads(run.stdout)
    return numbers


def main() -> None:
    print(f"{report.load()} at the start\n")
    print(f"A PPO iteration, from {START.batch} responses of {START.response} tokens, vocabulary "
          f"{START.vocab}, width {START.width}, {START.layers} layers")  # fmt: skip
    print(f"{'':18s}{'seconds':>10s}{'times':>8s}{'MB':>8s}")
    first, mb = alone("ppo")
    print(f"{'as it is':18s}{first:10.3f}{1:8.1f}{mb:8.0f}")
    for name, values in GROWN.items():
        for value in values:
            s, mb = alone("ppo", **{name: value})
            print(f"{name:10s}{value:8,d}{s:10.3f}{s / first:8.1f}{mb:8.0f}", flush=True)
    print("\nAll responses to one prompt, in 14 words; seconds")
    heads = ("T", "responses", "tables of π", "scores", "optimum", "E, KL, H", "MB")
    print("".join(f"{head:>12s}" for head in heads))
    for length in LENGTHS:
        n, *times, mb = alone("enumeration", length=length)
        print(f"{length:12d}{n:12,.0f}" + "".join(f"{s:12.4f}" for s in times) + f"{mb:12.0f}")
    print(f"\n{report.load()} at the end")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        kind, sizes = sys.argv[1], json.loads(sys.argv[2])
        print(json.dumps({"ppo": ppo, "enumeration": enumeration}[kind](**sizes)))
    else:
        main()
