"""What should be on the page, computed here, in the process of the test, from the formulas."""

import torch
from torch import Tensor

from rlhf_lab import Trainer
from rlhf_lab.language import PROMPTS
from rlhf_lab.world import World, WorldTables


def optimum(tables: WorldTables, eta: float, beta: float, score: str = "reward model") -> Tensor:
    """log π* ∝ (η·log π_SFT + r) / (η + β), (N,)."""
    r = tables.golds if score == "gold" else tables.scores
    return ((eta * tables.ref_logprobs + r) / (eta + beta)).log_softmax(0)


def numbers(tables: WorldTables, logprobs: Tensor) -> Tensor:
    """E[score], E[gold], KL(π ‖ π_SFT) and H(π) as sums over all responses, (4,)."""
    log_ratios = logprobs - tables.ref_logprobs
    return torch.stack([tables.scores, tables.golds, log_ratios, -logprobs]) @ logprobs.exp()


def cockpit_rows(world: World, trainer: Trainer) -> dict[str, list[str]]:
    """The exact rows of the cockpit's table: the four numbers, and J* − J."""
    eta, beta = trainer.eta, trainer.beta
    policy, best = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for prompt in PROMPTS:
        tables = world.tables(prompt)
        with torch.no_grad():
            policy += numbers(tables, world.logprobs(trainer.policy, prompt)) / len(PROMPTS)
        best += numbers(tables, optimum(tables, eta, beta)) / len(PROMPTS)
    j, most = (m[0] - eta * m[2] + beta * m[3] for m in (policy, best))
    return {
        f"exact, after iteration {trainer.iteration}": [text(x) for x in (*policy, most - j)],
        "exact optimum π*": [text(x) for x in (*best, 0.0)],
    }


def text(x: Tensor | float) -> str:
    """With two decimals and a real minus sign."""
    return f"{round(float(x), 2) + 0.0:.2f}".replace("-", "−")
