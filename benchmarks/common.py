"""What the peers share: the settings, the prompts, the reward, and the protocol.

A peer is a process of its own, `python ours.py S1`, because TRL needs another environment. It
prints one JSON line with the work of one iteration, and then reads numbers: for each n it does n
iterations and prints the list of their seconds. While it waits for the next number it uses no CPU,
so the rounds of all peers can be interleaved.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LR, ETA, EPOCHS, SEED = 1.41e-5, 0.1, 4, 0  # TRL's default rate; k1 is the penalty
PROMPT, POSITIONS = 2, 64  # tokens


class Setting(NamedTuple):
    """Sizes of the random GPT-2, number and length of responses, and number of iterations."""

    vocab: int
    width: int
    layers: int
    heads: int
    batch: int
    response: int  # tokens
    warm_up: int = 5  # iterations that are not counted
    rounds: int = 8
    iterations: int = 10  # of each peer in a round


SETTINGS = {
    "S1": Setting(32, 64, 2, 4, batch=64, response=8),
    "S2": Setting(32, 64, 2, 4, batch=256, response=8),
    "S3": Setting(50257, 128, 4, 4, batch=32, response=24, warm_up=1, rounds=3, iterations=2),
}


def random_prompts(setting: Setting) -> Tensor:
    """Prompts for eight iterations, after which they are repeated, (8 B, P)."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(setting.vocab, (8 * setting.batch, PROMPT), generator=generator)


def reward(responses: Tensor) -> Tensor:
    """Share of even tokens; it is cheap, so the time is that of PPO itself. (B, T) -> (B,)"""
    return (responses % 2 == 0).float().mean(dim=1)


def serve(make: Callable[[Setting], tuple[Callable[[], Sequence[Tensor]], list[Tensor]]]) -> None:
    """Work as a peer until stdin closes.

    Args:
        make: builds everything; returns a function that performs one iteration and returns the
            responses, and the trained parameters.
    """
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not mix with the answers
    torch.set_num_threads(1)
    setting = SETTINGS[sys.argv[1]]
    iterate, parameters = make(setting)
    gradients: list[None] = []  # one entry per gradient; Adam makes a step after each
    hooks = [p.register_hook(lambda _: gradients.append(None)) for p in parameters]
    responses = iterate()
    for hook in hooks:
        hook.remove()
    facts = {
        "responses": len(responses),
        "tokens": sum(len(response) for response in responses),
        "gradients": len(gradients) / max(len(parameters), 1),
        "parameters": sum(p.numel() for p in parameters),
        "torch": torch.__version__,
    }
    for _ in range(setting.warm_up):
        iterate()
    print(json.dumps(facts), file=out, flush=True)
    for line in sys.stdin:
        wall, cpu = [], []
        for _ in range(1 + int(line)):  # the first finds other peers' data in the caches
            start = time.perf_counter(), time.process_time()
            iterate()
            wall.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
        print(json.dumps([wall[1:], cpu[1:]]), file=out, flush=True)
