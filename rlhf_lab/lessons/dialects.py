"""The same leash in five dialects: what TRL (then and now), verl, OpenRLHF and NeMo-RL call η.

One source for notebook 12's card and for the table of docs/bridge.md. TRL's part was read and run,
see docs/bridge.md; verl, OpenRLHF and NeMo-RL were read at the commits named here, not run.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from rlhf_lab.translation import tr


class Dialect(NamedTuple):
    """One trainer, in its own words; defaults in brackets. "–": it has no such thing."""

    name: str
    version: str
    files: str
    coefficient: str
    place: str
    estimator: str
    adaptive: str
    entropy: str
    baseline: str
    normalisation: str
    clip: str
    denominator: str
    group_size: str
    score_limits: str


ROWS = {
    "version": "version",
    "files": "files",
    "coefficient": "what we call η",
    "place": "where it is charged",
    "estimator": "estimator of the KL",
    "adaptive": "adaptive η",
    "entropy": "what we call β",
    "baseline": "baseline",
    "normalisation": "advantages divided by",
    "clip": "clip of the ratio",
    "denominator": "loss divided by",
    "group_size": "responses to a prompt",
    "score_limits": "limits of the score",
}
"""The fields as rows of the table."""

DIALECTS = (
    Dialect(
        name="this course, PPO",
        version="0.2.0",
        files="`rlhf_lab/rewards.py`, `trainer.py`, `config.py`",
        coefficient="`eta` (0.1)",
        place="reward, each token",
        estimator="`kl_mode`: kl = k1 (abs, mse, full)",
        adaptive="`kl_target` (None)",
        entropy="`beta` (0.0), mean over tokens",
        baseline="critic, GAE λ 0.95",
        normalisation="their standard deviation (whitened)",
        clip="`cliprange` (0.2)",
        denominator="tokens of the batch",
        group_size="–",
        score_limits="–",
    ),
    Dialect(
        name="TRL PPO",
        version="0.11.4, the last with this trainer",
        files="`trl/trainer/ppo_trainer.py`, `ppo_config.py`",
        coefficient="`init_kl_coef` (0.2)",
        place="reward, each token",
        estimator="`kl_penalty`: kl = k1 (abs, mse, full)",
        adaptive="`adap_kl_ctrl` (True), target 6 nats",
        entropy="–, logged",
        baseline="critic, GAE λ 0.95",
        normalisation="their standard deviation (whitened)",
        clip="`cliprange` (0.2)",
        denominator="tokens of the batch",
        group_size="–",
        score_limits="`score_clip` (None)",
    ),
    Dialect(
        name="TRL RLOO",
        version="1.16.0",
        files="`trl/trainer/rloo_trainer.py`, `rloo_config.py`",
        coefficient="`beta` (0.05)",
        place="reward, sum per response",
        estimator="k1",
        adaptive="–",
        entropy="–, logged",
        baseline="mean of the others in the group",
        normalisation="nothing; batch deviation + 1e-4 by `normalize_advantages` (False)",
        clip="`epsilon` (0.2), on the product of a response's ratios",
        denominator="responses",
        group_size="`num_generations` (2)",
        score_limits="`reward_clip_range` (None), before the KL",
    ),
    Dialect(
        name="TRL GRPO",
        version="1.16.0",
        files="`trl/trainer/grpo_trainer.py`, `grpo_config.py`",
        coefficient="`beta` (0.0)",
        place="loss",
        estimator="k3 · token ratio (`use_bias_correction_kl`: True)",
        adaptive="–",
        entropy="`entropy_coef` (0.0), mean per token",
        baseline="mean of the group, itself included",
        normalisation="`scale_rewards`: group deviation + 1e-4",
        clip="`epsilon` (0.2), idle with one step per generation",
        denominator="`loss_type`: dapo, tokens of the whole generation batch",
        group_size="`num_generations` (8)",
        score_limits="–",
    ),
    Dialect(
        name="TRL DPO",
        version="1.16.0",
        files="`trl/trainer/dpo_trainer.py`, `dpo_config.py`",
        coefficient="`beta` (0.1), divided by the labels' sharpness",
        place="nowhere: in the log-ratio of each pair",
        estimator="–",
        adaptive="–",
        entropy="–",
        baseline="–",
        normalisation="–",
        clip="–",
        denominator="pairs",
        group_size="2, from the data",
        score_limits="–",
    ),
    Dialect(
        name="verl",
        version="1dda039b (August 2026)",
        files="`verl/trainer/ppo/core_algos.py`, `verl/trainer/config/`",
        coefficient="`kl_ctrl.kl_coef` (0.001) or `kl_loss_coef` (0.001)",
        place="off; reward by `use_kl_in_reward`, loss by `use_kl_loss`",
        estimator="in the reward kl = k1, in the loss low_var_kl = k3, cut off at ±10",
        adaptive="`kl_ctrl.type` (fixed); target 0.1 per token",
        entropy="`entropy_coeff` (0)",
        baseline="`adv_estimator`: gae, λ 1; grpo, rloo and others",
        normalisation="gae: whitened; grpo: group deviation + 1e-6",
        clip="`clip_ratio` (0.2), dual clip 3",
        denominator="`loss_agg_mode`: token-mean",
        group_size="`rollout.n` (1)",
        score_limits="–",
    ),
    Dialect(
        name="OpenRLHF",
        version="0.11.0, 3c3be623 (August 2026)",
        files="`openrlhf/cli/train_ppo_ray.py`, `openrlhf/models/loss.py`, `utils.py`",
        coefficient="`algo.kl.init_coef` (0.01)",
        place="reward, each token; loss by `algo.kl.use_loss`",
        estimator="k1 (k2, k3), cut off at ±10",
        adaptive="`kl.target` (None)",
        entropy="`actor.entropy_coef` (None)",
        baseline="gae, λ 1; rloo, group_norm, dr_grpo and others",
        normalisation="gae: batch; rloo, dr_grpo: –; "
        "group_norm: group deviation + 1e-9, before the KL",
        clip="`eps_clip` (0.2)",
        denominator="tokens",
        group_size="`n_samples_per_prompt` (1)",
        score_limits="`reward.clip_range` (±10)",
    ),
    Dialect(
        name="NeMo-RL",
        version="7ea279ab (August 2026)",
        files="`nemo_rl/algorithms/loss/loss_functions.py`, `advantage_estimator.py`, `utils.py`",
        coefficient="`reference_policy_kl_penalty` (0.01)",
        place="loss; reward by `use_kl_in_reward`",
        estimator="k3 · token ratio (k1, k2), cut off",
        adaptive="–",
        entropy="–, logged",
        baseline="mean of the others in the group",
        normalisation="deviation of the others + 1e-6",
        clip="`ratio_clip_min`, `ratio_clip_max` (0.2)",
        denominator="tokens (`token_level_loss`)",
        group_size="`num_generations_per_prompt` (16)",
        score_limits="`reward_scaling` off",
    ),
)
"""Defaults of each trainer, as its source has them."""


class Setting(NamedTuple):
    """One way to set a library's leash, and what it is in the words of this course."""

    name: str
    code: str
    """How one writes it; {} stands for the coefficient."""
    place: Literal["reward", "loss", "labels"]
    estimator: str
    rests_on: Literal["reward", "k3_ratio", "k3"]
    """Which rest point it has if advantages are not divided by a spread."""
    divided_by: str
    unit: Literal["score", "deviation", "labels"]
    """What one unit of the coefficient is worth, see UNITS."""

    def card(self, coefficient: float) -> str:
        """The setting with a number, translated."""
        x = f"{coefficient:g}"
        eta = f"η = {x}/s" if self.place == "labels" else f"η = {x}"
        estimator = tr(self.estimator)
        where = {
            "labels": tr("in the log-ratio of each pair; the labels' sharpness s sets the leash"),
            "reward": tr("in the reward, {estimator}", estimator=estimator),
            "loss": tr("in the loss, {estimator}", estimator=estimator),
        }[self.place]
        return tr(
            "{code}.\nHere: {eta}, {where}; the loss is divided by {divided_by}.\n{unit}",
            code=self.code.format(x), eta=eta, where=where, divided_by=tr(self.divided_by),
            unit=tr(UNITS[self.unit]),
        )  # fmt: skip


UNITS = {
    "score": "η is in units of score per nat.",
    "deviation": "Advantages are divided by a standard deviation, of the group or the batch, and "
    "the KL is not: one unit of η is worth that deviation. (The curve is drawn without it.)",
    "labels": "Readers prefer a to b with probability σ(s·(r(a) − r(b))). (The curve is drawn for "
    "s = 1, every response compared, and data without end.)",
}

SETTINGS = (
    Setting("this course, PPO", "PPOConfig(eta={})", "reward",
            "k1 of each token", "reward", "tokens", "score"),
    Setting("TRL 0.11.4 PPO", "PPOConfig(init_kl_coef={}, adap_kl_ctrl=False)", "reward",
            "k1 of each token", "reward", "tokens", "score"),
    Setting("TRL RLOO", "RLOOConfig(beta={})", "reward",
            "k1 summed over the response", "reward", "responses", "score"),
    Setting("TRL GRPO", "GRPOConfig(beta={})", "loss",
            "k3 times the token ratio", "k3_ratio", "tokens of the generation batch", "deviation"),
    Setting("TRL GRPO, not scaled",
            'GRPOConfig(beta={}, scale_rewards="none", loss_type="dr_grpo")', "loss",
            "k3 times the token ratio", "k3_ratio", "responses · longest length", "score"),
    Setting("TRL GRPO, before 1.10",
            'GRPOConfig(beta={}, use_bias_correction_kl=False, scale_rewards="none")', "loss",
            "k3", "k3", "tokens of the generation batch", "score"),
    Setting("TRL DPO", "DPOConfig(beta={})", "labels",
            "", "reward", "pairs", "labels"),
    Setting("verl, in the reward",
            "algorithm.use_kl_in_reward=True algorithm.kl_ctrl.kl_coef={}", "reward",
            "k1 of each token", "reward", "tokens", "score"),
    Setting("verl, in the loss",
            "actor_rollout_ref.actor: use_kl_loss=True, kl_loss_coef={}, "
            "kl_loss_type=low_var_kl", "loss",
            "k3, cut off at ±10", "k3", "tokens", "deviation"),
    Setting("OpenRLHF", "--algo.kl.init_coef {}", "reward",
            "k1 of each token, cut off at ±10", "reward", "tokens", "score"),
    Setting("OpenRLHF, in the loss",
            "--algo.kl.use_loss --algo.kl.estimator k2 --algo.kl.init_coef {}", "loss",
            "k2, cut off at ±10", "k3_ratio", "tokens", "deviation"),
    Setting("NeMo-RL", "loss_fn.reference_policy_kl_penalty={}", "loss",
            "k3 times the token ratio", "k3_ratio", "tokens", "deviation"),
)  # fmt: skip
"""What the card offers."""


def table() -> str:
    """The dialects side by side, in Markdown: one column for each, one row for each field."""
    head = ["", *(dialect.name for dialect in DIALECTS)]
    rows = ([words, *(getattr(dialect, x) for dialect in DIALECTS)] for x, words in ROWS.items())
    return _markdown(head, rows)


def narrow_table(*fields: str) -> str:
    """A few fields of the dialects, in Markdown: one row for each dialect, one column per field."""
    rows = ([dialect.name, *(getattr(dialect, x) for x in fields)] for dialect in DIALECTS)
    return _markdown(["", *(ROWS[x] for x in fields)], rows)


def _markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(tr, cells))} |" for cells in lines)
