# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 01."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


# ---------------------------------------------------------------- response_logprobs
def response_logprobs__whole_text_shifted(logits, tokens, prompt_length):
    """log π of each token of the responses, (B, T)."""
    chose = logits[:, :-1]  # (B, T, V): the rows of logits that chose the response
    actions = tokens[:, 1:]  # (B, T): the tokens they chose
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


def response_logprobs__rows_from_the_start(logits, tokens, prompt_length):
    """log π of each token of the responses, (B, T)."""
    chose = logits[:, :-prompt_length]  # drop P rows so that the lengths match
    actions = tokens[:, prompt_length:]
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


def response_logprobs__argmax(logits, tokens, prompt_length):
    """log π of each token of the responses, (B, T)."""
    chose = logits[:, prompt_length - 1 : -1]
    actions = chose.argmax(dim=2)  # what these rows choose
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


def response_logprobs__one_row_spare(logits, tokens, prompt_length):
    """log π of each token of the responses, (B, T)."""
    chose = logits[:, prompt_length - 1 :]  # the last row is never looked up
    actions = tokens[:, prompt_length:]
    return chose.log_softmax(dim=2).gather(2, actions.unsqueeze(2)).squeeze(2)


# ---------------------------------------------------------------- response_mask
def response_mask__until_second_eos(responses, eos_id):
    """(B, T), bool: True up to and including the first <eos> of each row."""
    seen = (responses == eos_id).cumsum(dim=1)
    return seen <= 1


def response_mask__argmax_without_eos(responses, eos_id):
    """(B, T), bool: True up to and including the first <eos> of each row."""
    first = (responses == eos_id).int().argmax(dim=1)
    steps = torch.arange(responses.shape[1])
    return steps <= first.unsqueeze(1)


def response_mask__not_eos_shifted(responses, eos_id):
    """(B, T), bool: True up to and including the first <eos> of each row."""
    word = responses != eos_id
    before_is_word = torch.cat([word[:, :1], word[:, :-1]], dim=1)
    return word | before_is_word


def response_mask__loop(responses, eos_id):
    """(B, T), bool: True up to and including the first <eos> of each row."""
    mask = torch.zeros_like(responses, dtype=torch.bool)
    for b, row in enumerate(responses.tolist()):
        for t, token in enumerate(row):
            mask[b, t] = True
            if token == eos_id:
                break
    return mask


# ---------------------------------------------------------------- terminal_reward
def terminal_reward__all_rows_at_all_ends(scores, mask):
    """scores (B,), mask (B, T) -> rewards (B, T): each score on its review's last token."""
    rewards = torch.zeros(mask.shape, dtype=scores.dtype)
    last = mask.sum(dim=1).long() - 1
    rewards[:, last] = scores
    return rewards


def terminal_reward__shared_out(scores, mask):
    """scores (B,), mask (B, T) -> rewards (B, T): each score on its review's last token."""
    lengths = mask.sum(dim=1)
    per_token = scores / lengths
    return per_token.unsqueeze(1) * mask


def terminal_reward__one_behind(scores, mask):
    """scores (B,), mask (B, T) -> rewards (B, T): each score on its review's last token."""
    B, T = mask.shape
    rewards = torch.zeros(B, T, dtype=scores.dtype)
    length = mask.sum(dim=1).long()
    end = length.clamp(max=T - 1)
    rewards[torch.arange(B), end] = scores
    return rewards


def terminal_reward__largest_position(scores, mask):
    """scores (B,), mask (B, T) -> rewards (B, T): each score on its review's last token."""
    B, T = mask.shape
    positions = torch.arange(T)
    last = (mask.bool() * positions).argmax(dim=1)
    rewards = torch.zeros(B, T, dtype=scores.dtype)
    rewards[torch.arange(B), last] = scores
    return rewards


# ---------------------------------------------------------------- returns_to_go
def returns_to_go__discounts_itself(rewards, mask, gamma):
    """rewards (B, T), mask (B, T) -> G_t, (B, T), 0 off the mask."""
    rewards = rewards.masked_fill(~mask.bool(), 0.0)
    G = torch.zeros_like(rewards)
    running = torch.zeros(len(rewards), dtype=rewards.dtype)
    for t in reversed(range(rewards.shape[1])):
        running = gamma * (rewards[:, t] + running)
        G[:, t] = running
    return G.masked_fill(~mask.bool(), 0.0)


def returns_to_go__discount_from_the_start(rewards, mask, gamma):
    """rewards (B, T), mask (B, T) -> G_t, (B, T), 0 off the mask."""
    keep = mask.bool()
    r = rewards.masked_fill(~keep, 0.0)
    k = torch.arange(r.shape[1], dtype=r.dtype)
    discounted = r * gamma**k
    G = discounted.flip(1).cumsum(1).flip(1)
    return G.masked_fill(~keep, 0.0)


def returns_to_go__what_is_left(rewards, mask, gamma):
    """rewards (B, T), mask (B, T) -> G_t, (B, T), 0 off the mask."""
    keep = mask.bool()
    r = rewards.masked_fill(~keep, 0.0)
    total = r.sum(dim=1, keepdim=True)
    return (total - r.cumsum(dim=1)).masked_fill(~keep, 0.0)


def returns_to_go__matrix(rewards, mask, gamma):
    """rewards (B, T), mask (B, T) -> G_t, (B, T), 0 off the mask."""
    keep = mask.bool()
    r = torch.where(keep, rewards, torch.zeros_like(rewards))
    T = r.shape[1]
    W = torch.zeros(T, T, dtype=r.dtype)
    for t in range(T):
        for k in range(t, T):
            W[k, t] = gamma ** (k - t)
    return torch.where(keep, r @ W, torch.zeros_like(r))


ANSWERS = [
    ("response_logprobs", "wrong", response_logprobs__whole_text_shifted,
     "The shift by one is right, but the prompt's tokens after the first are kept too, so for a prompt longer than one token there are too many columns."),
    ("response_logprobs", "wrong", response_logprobs__rows_from_the_start,
     "The number of rows is right, but they start at position 0 and not at the prompt's last token, which is the same only if the prompt has one token."),
    ("response_logprobs", "wrong", response_logprobs__argmax,
     "These are the most probable tokens, not the tokens that were sampled and stand in `tokens`."),
    ("response_logprobs", "right", response_logprobs__one_row_spare,
     "sloppy: leaves one row too many, which gather never reads"),
    ("response_mask", "wrong", response_mask__until_second_eos,
     "Everything after the first <eos> is also True until a second one comes, so padding that is another token stays in."),
    ("response_mask", "wrong", response_mask__argmax_without_eos,
     "In a row without <eos> argmax gives 0, so only the first token is kept where all of them should be."),
    ("response_mask", "wrong", response_mask__not_eos_shifted,
     "Two slips: any word behind the first <eos> becomes True again, and an <eos> as the very first token is left out."),
    ("response_mask", "right", response_mask__loop, "plain Python loops with a break"),
    ("terminal_reward", "wrong", terminal_reward__all_rows_at_all_ends,
     "`rewards[:, last]` writes to the columns of all ends in every row; the row index must be arange(B) beside it."),
    ("terminal_reward", "wrong", terminal_reward__shared_out,
     "The score is spread evenly over the tokens, where the whole of it belongs on the last one."),
    ("terminal_reward", "wrong", terminal_reward__one_behind,
     "The length is the position after the last token, so the score lands one column behind the end, off the mask, unless the row is full."),
    ("terminal_reward", "right", terminal_reward__largest_position,
     "finds the largest position on the mask and indexes it"),
    ("returns_to_go", "wrong", returns_to_go__discounts_itself,
     "A token's own reward is discounted too; only what comes after it is multiplied by γ."),
    ("returns_to_go", "wrong", returns_to_go__discount_from_the_start,
     "The discount is counted from the beginning of the review and not from the token t itself: divide by γ^t."),
    ("returns_to_go", "wrong", returns_to_go__what_is_left,
     "Two slips: the token's own reward is missing from its return, and γ is not used at all."),
    ("returns_to_go", "right", returns_to_go__matrix, "a triangular matrix of discounts"),
]
