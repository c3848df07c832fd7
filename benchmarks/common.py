"""What the peers share: the settings, the prompts, the reward, and how they are asked.

A peer is a process of its own, `python ours.py S1`, so that TRL can live in another environment.
It sets itself up, says in one JSON line what it does per iteration, and then reads numbers: for
each n it performs n iterations and answers with the list of their seconds. While it waits for the
next number it uses no CPU, so the rounds of all peers can be interleaved.
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
    """Sizes of the random GPT-2, how many responses an iteration learns from, and how long."""

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
    """Prompts for eight iterations, after which they come again, (8 B, P)."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(setting.vocab, (8 * setting.batch, PROMPT), generator=generator)


def reward(responses: Tensor) -> Tensor:
    """Share of even tokens: costs nothing, so that PPO itself is timed. (B, T) -> (B,)"""
    return (responses % 2 == 0).float().mean(dim=1)


def serve(make: Callable[[Setting], tuple[Callable[[], Sequence[Tensor]], list[Tensor]]]) -> None:
    """Be a peer until stdin closes.

    Args:
        make: builds everything; returns a function that performs one iteration and returns the
            responses, and the trained parameters.
    """
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not get between
    torch.set_num_threads(1)
    setting = SETTINGS[sys.argv[1]]
    iterate, parameters = make(setting)
    gradients: list[None] = []  # each of which is followed by a step of Adam
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
        for _ in range(1 + int(line)):  # the first one finds the caches full of the other peers
            start = time.perf_counter(), time.process_time()
            iterate()
            wall.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
        print(json.dumps([wall[1:], cpu[1:]]), file=out, flush=True)
