"""Where π_SFT and the reward model come from: next-token training, then Bradley–Terry."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlhf_lab._checks import takes
from rlhf_lab._require import NotFinite, require_ids, require_total
from rlhf_lab.gpt2 import GPT2, GPT2Config, ScalarHead
from rlhf_lab.masking import masked_mean, response_mask

_TRAINING: dict[str, Any] = {
    "steps": "count 1..1000000",
    "generator": "generator",
    "batch_size": "count 1..1000000",
    "lr": "coefficient",
}


@takes(config=GPT2Config, prompts="integers (n, P)", responses="integers (n, T)", **_TRAINING)
def train_sft(
    config: GPT2Config,
    prompts: Tensor,
    responses: Tensor,
    *,
    steps: int,
    generator: torch.Generator,
    batch_size: int = 256,
    lr: float = 3e-3,
) -> GPT2:
    """Maximise log π(response | prompt) on a corpus: supervised fine-tuning.

    Args:
        config: sizes of the model.
        prompts: (n, P).
        responses: (n, T), padded behind `<eos>` = `config.eos_token_id`.
        steps: Adam steps; the rate falls to 0 along a cosine.
        generator: CPU generator for the initial weights and the batches.
        batch_size, lr: of a step.
    """
    require_ids("prompts", prompts, config.vocab_size)
    require_ids("responses", responses, config.vocab_size)
    model = GPT2(config, generator)
    mask = response_mask(responses, config.eos_token_id)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    start = prompts.shape[1] - 1
    tokens = torch.cat([prompts, responses], dim=1)
    with _blaming(lr, model):
        for _ in range(steps):
            rows = torch.randint(len(tokens), (batch_size,), generator=generator)
            logits = model(tokens[rows, :-1])[:, start:]  # (batch, T, V)
            losses = F.cross_entropy(logits.transpose(1, 2), responses[rows], reduction="none")
            masked_mean(losses, mask[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return model


@contextlib.contextmanager
def _blaming(lr: float, *models: nn.Module) -> Iterator[None]:
    """Steps that go too far end in weights, or numbers made of them, that are not finite."""
    try:
        yield
    except NotFinite as error:
        raise NotFinite(
            error.what, f"{error.detail}; a step went too far: lower lr = {lr:g}"
        ) from error
    for name, weight in (pair for model in models for pair in model.named_parameters()):
        if not weight.isfinite().all():
            raise NotFinite(f"weight {name}", f"not finite after training; lower lr = {lr:g}")


@takes(chosen="scores (n,)", rejected="scores (n,)", result="finite")
def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """−mean log σ(r(chosen) − r(rejected)): the odds of a preference are e to the difference.

    Adding a constant to all scores changes nothing, so a reward model's zero is arbitrary.

    Args:
        chosen, rejected: scores of the preferred and the other response, (n,).

    >>> bradley_terry_loss(torch.tensor([1.0]), torch.tensor([1.0]))  # a coin flip: ln 2
    tensor(0.6931)
    """
    return -F.logsigmoid(chosen - rejected).mean()


@takes(scores="scores (N,)", logprobs="distribution (N,)", result="finite")
def standardise(scores: Tensor, logprobs: Tensor) -> Tensor:
    """(r − E[r]) / std[r] under a policy: mean 0 and std 1 on what that policy says.

    A reward model's zero and unit are arbitrary. Fixed under π_SFT they make one η comparable
    between reward models, and η·KL comparable with the score.

    Args:
        scores: r(y) of every response, (N,).
        logprobs: log π(y), (N,), adding up to probability 1.

    Raises:
        ValueError: the shapes differ, or all scores that the policy ever gets are equal.

    >>> standardise(torch.tensor([3.0, 5.0]), torch.tensor([0.5, 0.5]).log())
    tensor([-1.,  1.])
    """
    p = logprobs.exp()
    require_total("logprobs", p)
    scores = scores.to(p)
    got = scores[p > 0]
    if (got == got[0]).all():
        raise ValueError(f"all scores are {got[0].item()}: there is no spread to make 1")
    centred = scores - p @ scores
    std = (p @ centred.square()).sqrt()
    if not 0 < std < torch.inf:
        raise NotFinite("the spread of scores", f"{std.item()} in {p.dtype}; rescale the scores")
    return centred / std


@takes(
    trunk=GPT2,
    head=ScalarHead,
    prompts="integers (n, P)",
    responses="integers (n, T)",
    result="finite",
)
def response_scores(trunk: GPT2, head: ScalarHead, prompts: Tensor, responses: Tensor) -> Tensor:
    """The reward model's scalar, read at each response's last token, (n,).

    Args:
        trunk, head: the reward model.
        prompts: (n, P).
        responses: (n, T), padded behind `<eos>`.
    """
    for name, tokens in {"prompts": prompts, "responses": responses}.items():
        require_ids(name, tokens, trunk.config.vocab_size)
    lengths = response_mask(responses, trunk.config.eos_token_id).sum(dim=1)
    hidden = trunk.hidden(torch.cat([prompts, responses], dim=1))  # (n, P + T, D)
    last = prompts.shape[1] + lengths - 1
    return head(hidden[torch.arange(len(hidden), device=hidden.device), last])


@takes(
    sft=GPT2,
    prompts="integers (n, P)",
    chosen="integers (n, T)",
    rejected="integers (n, T)",
    **_TRAINING,
)
def train_reward_model(
    sft: GPT2,
    prompts: Tensor,
    chosen: Tensor,
    rejected: Tensor,
    *,
    steps: int,
    generator: torch.Generator,
    batch_size: int = 64,
    lr: float = 1e-3,
) -> tuple[GPT2, ScalarHead]:
    """Fit a scalar head and a copy of the SFT policy to preferences, as InstructGPT did.

    Args:
        sft: where the trunk starts; not changed.
        prompts: (n, P).
        chosen, rejected: responses, (n, T) each.
        steps, generator, batch_size, lr: as in `train_sft`.

    Returns:
        The trunk and the head.
    """
    for name, tokens in {"prompts": prompts, "chosen": chosen, "rejected": rejected}.items():
        require_ids(name, tokens, sft.config.vocab_size)
    trunk = copy.deepcopy(sft)
    head = ScalarHead(sft.config.n_embd)
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with _blaming(lr, trunk, head):
        for _ in range(steps):
            rows = torch.randint(len(prompts), (batch_size,), generator=generator)
            both = response_scores(
                trunk, head, prompts[rows].repeat(2, 1), torch.cat([chosen[rows], rejected[rows]])
            )
            bradley_terry_loss(*both.chunk(2)).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return trunk, head
