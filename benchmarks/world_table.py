"""Print the exact optimum of review world, and where PPO ends.

python benchmarks/world_table.py            about two minutes on one core
"""

from rlhf_lab import PPOConfig, Trainer, exact, load_world
from rlhf_lab.language import PROMPTS
from rlhf_lab.report import Metrics, metrics, optimum_logprobs, policy_logprobs, said

WORLD = load_world()
SEEDS = range(5)


def row(name: str, m: Metrics, note: str) -> None:
    print(f"{name:24} {m.score:6.2f} {m.gold:6.2f} {m.kl:6.2f} {m.entropy:6.2f}  {note}")


def train(eta: float, beta: float, seed: int) -> Trainer:
    trainer = Trainer(WORLD, PPOConfig(eta=eta, beta=beta, seed=seed))
    for _ in range(trainer.config.iterations):
        trainer.step()
    return trainer


def ppo() -> None:
    print(f"\n{'PPO, 200 iterations':24} {'score':>6} {'gold':>6} {'KL':>6} {'H':>6}  says")
    runs = [(0.0, 0.0, 0), (0.0, 0.0, 1), (0.0, 0.0, 2), (0.03, 0.0, 0), (0.1, 0.0, 0)]
    for eta, beta, seed in [*runs, (1.0, 0.0, 0), (0.0, 0.2, 0)]:
        trainer = train(eta, beta, seed)
        exact_metrics = metrics(WORLD, policy_logprobs(WORLD, trainer.policy))
        says = said(trainer.rollout, 2) if trainer.rollout else ""
        row(f"η {eta:g}, β {beta:g}, seed {seed}", exact_metrics, says)


def regret() -> None:
    print("\nη 0.3, β 0: how near PPO comes")
    total = []
    for seed in SEEDS:
        trainer = train(0.3, 0.0, seed)
        logprobs = policy_logprobs(WORLD, trainer.policy)
        lost = [exact.regret(logprobs[p], *WORLD.tables(p)[1:3], eta=0.3).item() for p in PROMPTS]
        total += lost
        note = f"regret {sum(lost) / len(lost):.3f}, {trainer.history[-1].distinct} distinct of 128"
        row(f"seed {seed}", metrics(WORLD, logprobs), note)
    print(f"mean regret J* − J(π) over {len(SEEDS)} seeds: {sum(total) / len(total):.3f}")


def optimum() -> None:
    print(f"\n{'exact optimum':24} {'score':>6} {'gold':>6} {'KL':>6} {'H':>6}")
    for eta in (5, 2, 1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0):
        row(f"η {eta:g}, β 0", metrics(WORLD, optimum_logprobs(WORLD, eta, 0)), "")
    for beta in (0.05, 0.1, 0.2, 0.5, 1):
        row(f"η 0, β {beta:g}", metrics(WORLD, optimum_logprobs(WORLD, 0, beta)), "")


if __name__ == "__main__":
    optimum()
    regret()
    ppo()
