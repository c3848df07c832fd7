# fmt: off
# ruff: noqa
"""Students' answers, notebook 01."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# ---------------------------------------------------------------- response_logprobs


def response_logprobs__no_shift(logits, tokens, prompt_length):
    chose = logits[:, prompt_length:]
    actions = tokens[:, prompt_length:]
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


def response_logprobs__whole_sequence(logits, tokens, prompt_length):
    # the usual shift of causal language models
    shift_logits = logits[:, :-1]
    shift_labels = tokens[:, 1:]
    return shift_logits.log_softmax(dim=2).gather(2, shift_labels.unsqueeze(2)).squeeze(2)


def response_logprobs__prompt_is_one_token(logits, tokens, prompt_length):
    chose = logits[:, :-1]
    actions = tokens[:, prompt_length:]
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


def response_logprobs__five_tokens(logits, tokens, prompt_length):
    chose = logits[:, -6:-1]  # six rows of logits, the last is about nothing
    actions = tokens[:, -5:]
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


def response_logprobs__tokens_shifted(logits, tokens, prompt_length):
    chose = logits[:, prompt_length:]
    actions = tokens[:, prompt_length - 1 : -1]
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


def response_logprobs__argmax_actions(logits, tokens, prompt_length):
    chose = logits[:, prompt_length - 1 : -1]
    actions = chose.argmax(dim=2)  # the tokens that these rows chose
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


def response_logprobs__softmax(logits, tokens, prompt_length):
    probs = torch.softmax(logits[:, prompt_length - 1 : -1], dim=-1)
    actions = tokens[:, prompt_length:]
    return probs.gather(2, actions[..., None])[..., 0]


def response_logprobs__no_grad_and_no_shift(logits, tokens, prompt_length):
    with torch.no_grad():
        logp = F.log_softmax(logits, dim=-1)
        logp = torch.gather(logp, 2, tokens.unsqueeze(2)).squeeze(2)
    return logp[:, prompt_length:]


def response_logprobs__loop_right(logits, tokens, prompt_length):
    B, L = tokens.shape
    columns = []
    for t in range(prompt_length, L):
        logp = torch.log_softmax(logits[:, t - 1, :], dim=-1)
        columns.append(logp[torch.arange(B), tokens[:, t]])
    return torch.stack(columns, dim=1)


def response_logprobs__onehot_right(logits, tokens, prompt_length):
    T = tokens.shape[1] - prompt_length
    logp = logits - logits.logsumexp(dim=-1, keepdim=True)
    logp = logp[:, prompt_length - 1 : prompt_length - 1 + T]
    picked = F.one_hot(tokens[:, prompt_length:], logits.shape[-1]).to(logp.dtype)
    return torch.einsum("btv,btv->bt", logp, picked)


def response_logprobs__one_row_too_many_right(logits, tokens, prompt_length):
    chose = logits[:, prompt_length - 1 :]
    actions = tokens[:, prompt_length:]
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


# ---------------------------------------------------------------- response_mask


def response_mask__without_eos(responses, eos_id):
    return (responses == eos_id).cumsum(dim=1) == 0


def response_mask__not_equal(responses, eos_id):
    return responses != eos_id


def response_mask__at_most_one(responses, eos_id):
    seen = (responses == eos_id).cumsum(dim=1)
    return seen <= 1


def response_mask__argmax(responses, eos_id):
    first = (responses == eos_id).int().argmax(dim=1)
    positions = torch.arange(responses.shape[1])
    return positions[None, :] <= first[:, None]


def response_mask__roll(responses, eos_id):
    ended = (responses == eos_id).cumsum(dim=1) > 0
    return ~ended.roll(1, dims=1)  # one later: <eos> itself still counts


def response_mask__float(responses, eos_id):
    is_eos = (responses == eos_id).float()
    before = is_eos.cumsum(dim=1) - is_eos
    return (before == 0).float()


def response_mask__eos_is_zero(responses, eos_id):
    is_eos = responses == 0
    return (is_eos.cumsum(dim=1) - is_eos.int()) == 0


def response_mask__columns_and_int(responses, eos_id):
    is_eos = (responses == eos_id).int()
    before = is_eos.cumsum(0) - is_eos
    return (before == 0).int()


def response_mask__loops_right(responses, eos_id):
    mask = torch.zeros_like(responses, dtype=torch.bool)
    for i, row in enumerate(responses.tolist()):
        for t, token in enumerate(row):
            mask[i, t] = True
            if token == eos_id:
                break
    return mask


def response_mask__lengths_right(responses, eos_id):
    T = responses.shape[1]
    t = torch.arange(T).expand_as(responses)
    first = torch.where(responses == eos_id, t, T).min(dim=1).values  # T: there is none
    return t <= first.unsqueeze(1)


# ---------------------------------------------------------------- terminal_reward


def terminal_reward__last_column(scores, mask):
    rewards = torch.zeros(mask.shape, dtype=scores.dtype)
    rewards[:, -1] = scores
    return rewards


def terminal_reward__every_token(scores, mask):
    return scores.unsqueeze(1) * mask


def terminal_reward__shared_out(scores, mask):
    per_token = scores / mask.sum(dim=1)
    return per_token[:, None] * mask


def terminal_reward__behind_eos(scores, mask):
    rewards = scores.new_zeros(mask.shape)
    T = mask.shape[1]
    sequence_lengths = mask.sum(dim=1).long() - 1
    sequence_lengths_p1 = torch.where(sequence_lengths + 1 < T, sequence_lengths + 1, sequence_lengths)
    rewards[torch.arange(len(scores)), sequence_lengths_p1] += scores
    return rewards


def terminal_reward__zeros_like_mask(scores, mask):
    rewards = torch.zeros_like(mask)
    for i in range(len(scores)):
        last = mask[i].nonzero()[-1].item()
        rewards[i, last] = scores[i]
    return rewards


def terminal_reward__first_one(scores, mask):
    rewards = scores.new_zeros(mask.shape)
    last = mask.int().argmax(dim=1)
    rewards[torch.arange(len(scores)), last] = scores
    return rewards


def terminal_reward__float32_zeros(scores, mask):
    rewards = torch.zeros(mask.shape)
    last = mask.sum(dim=1).long() - 1
    rewards.scatter_(1, last.unsqueeze(1), scores.unsqueeze(1))
    return rewards


def terminal_reward__all_rows_at_once(scores, mask):
    rewards = scores.new_zeros(mask.shape)
    last = mask.sum(1).long() - 1
    rewards[:, last] = scores
    return rewards


def terminal_reward__next_is_padding_right(scores, mask):
    mask = mask.bool()
    # the last token: no selected one behind it
    behind = mask.flip(1).cumsum(1).flip(1)
    return torch.where(mask & (behind == 1), scores[:, None], 0.0)


def terminal_reward__loop_float32_right(scores, mask):
    rewards = torch.zeros(mask.shape)
    for i, score in enumerate(scores):
        rewards[i, torch.nonzero(mask[i])[-1, 0]] = score
    return rewards


def terminal_reward__length_minus_one_right(scores, mask):
    rewards = scores.new_zeros(mask.shape)
    rewards[torch.arange(len(scores)), mask.long().sum(1) - 1] = scores
    return rewards


# ---------------------------------------------------------------- returns_to_go


def returns_to_go__forward_no_gamma(rewards, mask, gamma):
    return (rewards * mask).cumsum(dim=1) * mask


def returns_to_go__gamma_ignored(rewards, mask, gamma):
    masked = rewards.masked_fill(~mask.bool(), 0.0)
    return masked.flip(1).cumsum(1).flip(1).masked_fill(~mask.bool(), 0.0)


def returns_to_go__discount_from_the_start(rewards, mask, gamma):
    T = rewards.shape[1]
    discounts = gamma ** torch.arange(T, dtype=rewards.dtype)
    discounted = rewards.masked_fill(~mask.bool(), 0.0) * discounts
    return discounted.flip(1).cumsum(1).flip(1).masked_fill(~mask.bool(), 0.0)


def returns_to_go__own_reward_discounted(rewards, mask, gamma):
    out = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        running = gamma * (torch.where(mask[:, t].bool(), rewards[:, t], 0.0) + running)
        out[:, t] = running
    return torch.where(mask.bool(), out, 0.0)


def returns_to_go__masked_at_the_end(rewards, mask, gamma):
    G = torch.zeros_like(rewards)
    running = 0.0
    for t in reversed(range(rewards.shape[1])):
        running = rewards[:, t] + gamma * running
        G[:, t] = running
    return G * mask


def returns_to_go__last_column_left_out(rewards, mask, gamma):
    rewards = rewards.masked_fill(~mask.bool(), 0.0)
    G = torch.zeros_like(rewards)
    for t in range(rewards.shape[1] - 2, -1, -1):
        G[:, t] = rewards[:, t] + gamma * G[:, t + 1]
    return G.masked_fill(~mask.bool(), 0.0)


def returns_to_go__running_over_rows(rewards, mask, gamma):
    G = torch.zeros_like(rewards)
    running = 0.0
    for b in range(rewards.shape[0]):
        for t in range(rewards.shape[1] - 1, -1, -1):
            if mask[b, t]:
                running = rewards[b, t] + gamma * running
                G[b, t] = running
    return G


def returns_to_go__list_not_turned(rewards, mask, gamma):
    rewards = torch.where(mask.bool(), rewards, 0.0)
    returns, coming = [], 0.0
    for t in reversed(range(rewards.shape[1])):
        coming = rewards[:, t] + gamma * coming
        returns.append(coming)
    return torch.stack(returns, dim=1) * mask


def returns_to_go__overwrites_rewards(rewards, mask, gamma):
    rewards[~mask.bool()] = 0
    for t in reversed(range(rewards.shape[1] - 1)):
        rewards[:, t] += gamma * rewards[:, t + 1]
    rewards[~mask.bool()] = 0
    return rewards


def returns_to_go__matrix_right(rewards, mask, gamma):
    T = rewards.shape[1]
    weights = torch.zeros(T, T, dtype=rewards.dtype)
    for t in range(T):
        for k in range(t, T):
            weights[t, k] = gamma ** (k - t)
    r = torch.where(mask.bool(), rewards, torch.zeros_like(rewards))
    return torch.where(mask.bool(), torch.einsum("tk,bk->bt", weights, r), torch.zeros_like(r))


def returns_to_go__recursion_right(rewards, mask, gamma):
    mask = mask.bool()

    def G(t):
        if t == rewards.shape[1]:
            return []
        later = G(t + 1)
        here = rewards[:, t].masked_fill(~mask[:, t], 0)
        return [here + gamma * later[0] if later else here] + later

    return torch.stack(G(0), dim=1).masked_fill(~mask, 0)


ANSWERS = [
    ("response_logprobs", "wrong", response_logprobs__no_shift, "The row of logits at a position is about the next token; here each token is looked up in its own row, which chose the one after it."),
    ("response_logprobs", "wrong", response_logprobs__whole_sequence, "The shift is right, but the prompt's tokens after the first are included too: nobody chose them; only the response is asked for."),
    ("response_logprobs", "wrong", response_logprobs__prompt_is_one_token, "The rows start at position 0, which is right only for a prompt of one token; for a longer one they are rows inside the prompt."),
    ("response_logprobs", "wrong", response_logprobs__five_tokens, "The length 5 of this notebook's reviews is written into the code and prompt_length is not used: other lengths give other shapes."),
    ("response_logprobs", "wrong", response_logprobs__tokens_shifted, "The shift goes the wrong way: the tokens are moved one back instead of the logits, so each row is asked about the token before it."),
    ("response_logprobs", "wrong", response_logprobs__argmax_actions, "The likeliest token of each row instead of the token that was sampled: a policy does not always say its favourite."),
    ("response_logprobs", "wrong", response_logprobs__softmax, "These are probabilities; the logarithm is missing."),
    ("response_logprobs", "wrong", response_logprobs__no_grad_and_no_shift, "Two things: no shift (each token is looked up in its own row), and under no_grad PPO could not differentiate the result."),
    ("response_logprobs", "right", response_logprobs__loop_right, "loop over positions, fancy indexing"),
    ("response_logprobs", "right", response_logprobs__onehot_right, "logsumexp by hand, one-hot and einsum"),
    ("response_logprobs", "right", response_logprobs__one_row_too_many_right, "last row of logits not cut off; gather never looks at it"),
    ("response_mask", "wrong", response_mask__without_eos, "The first <eos> itself is left out; to stop was a choice, too."),
    ("response_mask", "wrong", response_mask__not_equal, "Only asks whether a token is <eos>: the first <eos> is dropped, and other tokens behind it count again."),
    ("response_mask", "wrong", response_mask__at_most_one, "Tokens between the first and a second <eos> count too: right only if the padding is <eos> itself."),
    ("response_mask", "wrong", response_mask__argmax, "A row without <eos> has argmax 0, so only its first token is kept; all of it should be."),
    ("response_mask", "wrong", response_mask__roll, "roll is circular: the last column comes back in the first, so every row that has ended loses its first token."),
    ("response_mask", "wrong", response_mask__float, "The right places, but as floats 0. and 1.; a mask that selects (x[mask], ~mask) must be bool."),
    ("response_mask", "wrong", response_mask__eos_is_zero, "The argument eos_id is ignored; 0 is <eos> in this world only."),
    ("response_mask", "wrong", response_mask__columns_and_int, "Two things: the running count goes down the batch (dim 0) instead of along each row, and the result is int, not bool."),
    ("response_mask", "right", response_mask__loops_right, "two loops with break"),
    ("response_mask", "right", response_mask__lengths_right, "position of the first <eos> by torch.where and min"),
    ("terminal_reward", "wrong", terminal_reward__last_column, "The score lands in the last column, behind the end of short reviews, and not on the review's own last token."),
    ("terminal_reward", "wrong", terminal_reward__every_token, "The score is paid on every token of the review, so a review of five tokens is paid five times."),
    ("terminal_reward", "wrong", terminal_reward__shared_out, "The score is divided among the tokens; it is known only at the last one and should be paid there, whole."),
    ("terminal_reward", "wrong", terminal_reward__behind_eos, "One position behind <eos>, as in TRL 0.12: with this mask the score of every short review lies off the mask and is lost."),
    ("terminal_reward", "wrong", terminal_reward__zeros_like_mask, "zeros_like(mask) has the type of the mask, bool or int: the scores turn into True or are cut to whole numbers."),
    ("terminal_reward", "wrong", terminal_reward__first_one, "argmax finds the first selected token, so the score is on the first token of the review."),
    ("terminal_reward", "wrong", terminal_reward__float32_zeros, "The zeros are float32 and the scores may be float64: scatter refuses to mix them; take zeros of the scores' type."),
    ("terminal_reward", "wrong", terminal_reward__all_rows_at_once, "rewards[:, last] means these columns in all rows; one column for each row needs rewards[arange(B), last] or scatter."),
    ("terminal_reward", "right", terminal_reward__next_is_padding_right, "counts selected tokens from behind, torch.where"),
    ("terminal_reward", "right", terminal_reward__loop_float32_right, "loop and nonzero, float32 zeros"),
    ("terminal_reward", "right", terminal_reward__length_minus_one_right, "length - 1: right for masks as this notebook makes them (review first, padding behind); it would not be with padding on the left"),
    ("returns_to_go", "wrong", returns_to_go__forward_no_gamma, "Two things: the sum runs from the start to t, but a token answers for what comes after it; and gamma is not used."),
    ("returns_to_go", "wrong", returns_to_go__gamma_ignored, "gamma is not used: right only for gamma = 1."),
    ("returns_to_go", "wrong", returns_to_go__discount_from_the_start, "Discounts count from the start of the review, gamma^k, instead of from the token itself, gamma^(k-t)."),
    ("returns_to_go", "wrong", returns_to_go__own_reward_discounted, "A token's own reward is discounted too; G_t = r_t + gamma G_(t+1), the factor belongs to what comes later."),
    ("returns_to_go", "wrong", returns_to_go__masked_at_the_end, "Only the result is masked: rewards standing in the padding have already been added to the tokens before."),
    ("returns_to_go", "wrong", returns_to_go__last_column_left_out, "The loop starts at T-2 and the last column stays 0: a reward on the fifth token is never seen by anybody."),
    ("returns_to_go", "wrong", returns_to_go__running_over_rows, "The running sum is not set back to 0 for each review, so one review's return flows into the next."),
    ("returns_to_go", "wrong", returns_to_go__list_not_turned, "The list was filled from the last token to the first and is stacked as it is: the returns are in reversed order."),
    ("returns_to_go", "wrong", returns_to_go__overwrites_rewards, "The numbers are right, but they are written into the caller's rewards, which are lost: work on a copy."),
    ("returns_to_go", "right", returns_to_go__matrix_right, "matrix of gamma^(k-t) and einsum"),
    ("returns_to_go", "right", returns_to_go__recursion_right, "recursion with a helper function"),
]
