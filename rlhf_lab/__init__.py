"""The reward in PPO for language models, as a lab you can hold in your hand.

Notation, everywhere: η (`eta`) is the coefficient of the KL penalty, β (`beta`) that of the
entropy bonus, π the policy, π_ref the frozen SFT policy. All divergences are KL(π ‖ π_ref) unless
written otherwise, and everything is in nats. Elsewhere β is often the KL coefficient.
"""

import os

import torch

from rlhf_lab.aggregation import aggregate
from rlhf_lab.collapse import (
    count_responses,
    distinct_n,
    effective_responses,
    expected_distinct,
    top_share,
)
from rlhf_lab.config import GroupConfig, PPOConfig
from rlhf_lab.dpo import dpo_loss, implicit_reward
from rlhf_lab.entropies import entropy, entropy_bonus
from rlhf_lab.gpt2 import GPT2, GPT2Config, KVCache, ScalarHead
from rlhf_lab.group_loss import group_policy_loss, kl_in_loss
from rlhf_lab.group_trainer import GroupStats, GroupTrainer
from rlhf_lab.groups import group_advantages, leave_one_out, shaped_scores
from rlhf_lab.kl import KLMode, exact_kl, k1, k2, k3, kl_penalty
from rlhf_lab.masking import masked_mean, masked_sum, masked_whiten, response_mask
from rlhf_lab.memory import give_back_after_cells
from rlhf_lab.ppo import gae, policy_loss, value_loss
from rlhf_lab.progress import show_progress
from rlhf_lab.rewards import AdaptiveKLController, FixedKLController, Rewards, compute_rewards
from rlhf_lab.rollout import Task
from rlhf_lab.sampling import sample
from rlhf_lab.trainer import NonFiniteError, StepStats, Trainer, train
from rlhf_lab.world import World, build_world, load_world

__version__ = "0.2.0"

# One thread is fastest at this size, and on a shared machine the only sane choice: on two busy
# cores an iteration of PPO took 0.12 s with one thread and 7 s with two (OpenMP's barriers spin).
if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)

# glibc returns the memory of every large tensor to the system, and gets it back page by page, until
# one that is larger has been freed. Without this line `exact.optimum` takes 1.7 times as long.
torch.empty(2**25 - 2**16, dtype=torch.uint8)  # not touched, so it costs no memory
show_progress()
give_back_after_cells()  # what it keeps so is for the cell that needs it, and not for ever

__all__ = [
    "GPT2",
    "AdaptiveKLController",
    "FixedKLController",
    "GPT2Config",
    "GroupConfig",
    "GroupStats",
    "GroupTrainer",
    "KLMode",
    "KVCache",
    "NonFiniteError",
    "PPOConfig",
    "Rewards",
    "ScalarHead",
    "StepStats",
    "Task",
    "Trainer",
    "World",
    "aggregate",
    "build_world",
    "compute_rewards",
    "count_responses",
    "distinct_n",
    "dpo_loss",
    "effective_responses",
    "entropy",
    "entropy_bonus",
    "exact_kl",
    "expected_distinct",
    "gae",
    "group_advantages",
    "group_policy_loss",
    "implicit_reward",
    "k1",
    "k2",
    "k3",
    "kl_in_loss",
    "kl_penalty",
    "leave_one_out",
    "load_world",
    "masked_mean",
    "masked_sum",
    "masked_whiten",
    "policy_loss",
    "response_mask",
    "sample",
    "shaped_scores",
    "top_share",
    "train",
    "value_loss",
]
