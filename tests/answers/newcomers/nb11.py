# fmt: off
# ruff: noqa
"""Newcomers' answers, notebook 11."""
import torch
from torch import Tensor

# ---------------------------------------------------------------- rloo_advantages
def rloo_advantages__loop(scores, logprobs, ref_logprobs, mask, eta, group_size):
    """RLOO's advantages, with the leash in them: (B,), three (B, T), η, G -> (B,)."""
    kl = torch.sum((logprobs - ref_logprobs) * mask, dim=1)
    rewards = (scores - eta * kl).detach()
    out = torch.zeros_like(rewards)
    for i in range(len(rewards)):
        first = (i // group_size) * group_size
        others = [rewards[j] for j in range(first, first + group_size) if j != i]
        out[i] = rewards[i] - sum(others) / len(others)
    return out


@torch.no_grad()
def rloo_advantages__no_grad_rows(scores, logprobs, ref_logprobs, mask, eta, group_size):
    """RLOO's advantages, with the leash in them: (B,), three (B, T), η, G -> (B,)."""
    kl = torch.where(mask.bool(), logprobs - ref_logprobs, 0.0).sum(-1)
    R = (scores - eta * kl).reshape(-1, group_size)
    # R - mean of others  ==  G/(G-1) * (R - mean of all)
    A = (R - R.mean(dim=1, keepdim=True)) * group_size / (group_size - 1)
    return A.reshape(-1)


def rloo_advantages__own_included(scores, logprobs, ref_logprobs, mask, eta, group_size):
    """RLOO's advantages, with the leash in them: (B,), three (B, T), η, G -> (B,)."""
    kl = ((logprobs - ref_logprobs) * mask).sum(dim=1).detach()
    rewards = scores - eta * kl
    baseline = rewards.view(-1, group_size).mean(dim=1)
    return rewards - baseline.repeat_interleave(group_size)


def rloo_advantages__detach_only_baseline(scores, logprobs, ref_logprobs, mask, eta, group_size):
    """RLOO's advantages, with the leash in them: (B,), three (B, T), η, G -> (B,)."""
    kl = ((logprobs - ref_logprobs) * mask).sum(1)
    rewards = scores - eta * kl
    g = rewards.view(-1, group_size)
    others = (g.sum(1, keepdim=True) - g) / (group_size - 1)
    return rewards - others.flatten().detach()  # a baseline has no gradient


def rloo_advantages__padding_in_kl(scores, logprobs, ref_logprobs, mask, eta, group_size):
    """RLOO's advantages, with the leash in them: (B,), three (B, T), η, G -> (B,)."""
    logprobs = logprobs.detach()
    kl = (logprobs - ref_logprobs).sum(dim=-1)
    rewards = scores - eta * kl
    total = rewards.view(-1, group_size).sum(dim=-1).repeat_interleave(group_size)
    return rewards - (total - rewards) / (group_size - 1)


def rloo_advantages__baseline_without_kl(scores, logprobs, ref_logprobs, mask, eta, group_size):
    """RLOO's advantages, with the leash in them: (B,), three (B, T), η, G -> (B,)."""
    kl = ((logprobs - ref_logprobs) * mask).sum(dim=1)
    rewards = scores - eta * kl
    s = scores.view(-1, group_size)
    mean_of_others = (s.sum(dim=1, keepdim=True) - s) / (group_size - 1)
    return (rewards - mean_of_others.view(-1)).detach()


def rloo_advantages__groups_across(scores, logprobs, ref_logprobs, mask, eta, group_size):
    """RLOO's advantages, with the leash in them: (B,), three (B, T), η, G -> (B,)."""
    with torch.no_grad():
        kl = ((logprobs - ref_logprobs) * mask).sum(dim=1)
        rewards = scores - eta * kl
        r = rewards.view(group_size, -1)
        baseline = (r.sum(dim=0) - r) / (group_size - 1)
        return rewards - baseline.flatten()


def rloo_advantages__one_kl_for_the_batch(scores, logprobs, ref_logprobs, mask, eta, group_size):
    """RLOO's advantages, with the leash in them: (B,), three (B, T), η, G -> (B,)."""
    kl = ((logprobs - ref_logprobs) * mask).sum()
    rewards = (scores - eta * kl).detach()
    advantages = []
    for group in rewards.split(group_size):
        for i, r in enumerate(group):
            rest = torch.cat([group[:i], group[i + 1:]])
            advantages.append(r - rest.mean())
    return torch.stack(advantages)


# ---------------------------------------------------------------- group_advantages
def group_advantages__stub_filled(rewards, group_size, scale):
    """GRPO's advantages, scale "group", "batch" (std of all rewards) or "none": (N,) -> (N,)."""
    rows = rewards.view(-1, group_size)  # one row for each group
    centred = rows - rows.mean(dim=1, keepdim=True)
    if scale == "group":
        centred = centred / (rows.std(dim=1, keepdim=True) + 1e-4)
    elif scale == "batch":
        centred = centred / (rewards.std() + 1e-4)
    return centred.flatten()


def group_advantages__loop(rewards, group_size, scale):
    """GRPO's advantages, scale "group", "batch" (std of all rewards) or "none": (N,) -> (N,)."""
    n = rewards.numel()
    mu = rewards.sum() / n
    std_all = (((rewards - mu) ** 2).sum() / (n - 1)).sqrt()
    pieces = []
    for g in rewards.split(group_size):
        d = g - g.sum() / group_size
        if scale == "none":
            pieces.append(d)
        elif scale == "batch":
            pieces.append(d / (std_all + 0.0001))
        else:
            s = ((d ** 2).sum() / (group_size - 1)).sqrt()
            pieces.append(d / (s + 0.0001))
    return torch.cat(pieces)


def group_advantages__biased_std(rewards, group_size, scale):
    """GRPO's advantages, scale "group", "batch" (std of all rewards) or "none": (N,) -> (N,)."""
    rows = rewards.view(-1, group_size)  # one row for each group
    centred = rows - rows.mean(1, keepdim=True)
    if scale == "group":
        std = (centred ** 2).mean(1, keepdim=True).sqrt()
        centred = centred / (std + 1e-4)
    if scale == "batch":
        std = ((rewards - rewards.mean()) ** 2).mean().sqrt()
        centred = centred / (std + 1e-4)
    return centred.flatten()


def group_advantages__std_down_the_columns(rewards, group_size, scale):
    """GRPO's advantages, scale "group", "batch" (std of all rewards) or "none": (N,) -> (N,)."""
    rows = rewards.view(-1, group_size)  # one row for each group
    centred = rows - rows.mean(dim=1, keepdim=True)
    if scale == "group":
        return (centred / (rows.std(dim=0) + 1e-4)).flatten()
    if scale == "batch":
        return (centred / (rows.std() + 1e-4)).flatten()
    return centred.flatten()


def group_advantages__batch_std_of_centred(rewards, group_size, scale):
    """GRPO's advantages, scale "group", "batch" (std of all rewards) or "none": (N,) -> (N,)."""
    rows = rewards.view(-1, group_size)  # one row for each group
    centred = rows - rows.mean(dim=-1, keepdim=True)
    match scale:
        case "group":
            centred = centred / (centred.std(dim=-1, keepdim=True) + 1e-4)
        case "batch":
            centred = centred / (centred.std() + 1e-4)
    return centred.flatten()


def group_advantages__batch_mean_for_batch(rewards, group_size, scale):
    """GRPO's advantages, scale "group", "batch" (std of all rewards) or "none": (N,) -> (N,)."""
    eps = 1e-4
    if scale == "batch":
        return (rewards - rewards.mean()) / (rewards.std() + eps)
    rows = rewards.view(-1, group_size)
    centred = rows - rows.mean(1, keepdim=True)
    if scale == "group":
        centred /= rows.std(1, keepdim=True) + eps
    return centred.flatten()


def group_advantages__eps_after_the_division(rewards, group_size, scale):
    """GRPO's advantages, scale "group", "batch" (std of all rewards) or "none": (N,) -> (N,)."""
    rows = rewards.view(-1, group_size)  # one row for each group
    centred = rows - rows.mean(dim=1, keepdim=True)
    if scale == "group":
        centred = centred / rows.std(dim=1, keepdim=True) + 1e-4
    elif scale == "batch":
        centred = centred / rows.std() + 1e-4
    return centred.flatten()


def group_advantages__none_is_raw(rewards, group_size, scale):
    """GRPO's advantages, scale "group", "batch" (std of all rewards) or "none": (N,) -> (N,)."""
    if scale == "none":
        return rewards
    rows = rewards.view(-1, group_size)
    std = rows.std(dim=1, keepdim=True) if scale == "group" else rewards.std()
    centred = (rows - rows.mean(dim=1, keepdim=True)) / (std + 1e-4)
    return centred.flatten()


# ---------------------------------------------------------------- kl_pull
def kl_pull__flip(logprobs, ref_logprobs, mask, place):
    """The table above, place "reward", "k3_ratio" or "k3": three (B, T) -> (B, T)."""
    d = (logprobs - ref_logprobs) * mask
    return {"reward": d.flip(1).cumsum(1).flip(1), "k3_ratio": d, "k3": 1 - torch.exp(-d)}[place]


def kl_pull__backwards_loop(logprobs, ref_logprobs, mask, place):
    """The table above, place "reward", "k3_ratio" or "k3": three (B, T) -> (B, T)."""
    d = (logprobs - ref_logprobs) * mask
    if place == "k3_ratio":
        return d
    if place == "k3":
        return -torch.expm1(-d) * mask
    pull = torch.zeros_like(d)
    running = torch.zeros_like(d[:, 0])
    for t in reversed(range(d.shape[1])):
        running = running + d[:, t]
        pull[:, t] = running * mask[:, t]
    return pull


def kl_pull__sum_of_earlier(logprobs, ref_logprobs, mask, place):
    """The table above, place "reward", "k3_ratio" or "k3": three (B, T) -> (B, T)."""
    d = (logprobs - ref_logprobs) * mask
    return {"reward": d.cumsum(1) * mask, "k3_ratio": d, "k3": 1 - (-d).exp()}[place]


def kl_pull__mask_only_at_the_end(logprobs, ref_logprobs, mask, place):
    """The table above, place "reward", "k3_ratio" or "k3": three (B, T) -> (B, T)."""
    d = logprobs - ref_logprobs
    number = {
        "reward": d.flip(1).cumsum(1).flip(1),
        "k3_ratio": d,
        "k3": 1 - torch.exp(-d),
    }[place]
    return number * mask


def kl_pull__k3_value(logprobs, ref_logprobs, mask, place):
    """The table above, place "reward", "k3_ratio" or "k3": three (B, T) -> (B, T)."""
    d = (logprobs - ref_logprobs) * mask
    k3 = torch.exp(-d) - 1 + d
    return {"reward": d.flip(1).cumsum(1).flip(1), "k3_ratio": d, "k3": k3}[place]


def kl_pull__k3_other_direction(logprobs, ref_logprobs, mask, place):
    """The table above, place "reward", "k3_ratio" or "k3": three (B, T) -> (B, T)."""
    d = (logprobs - ref_logprobs) * mask
    ratio = torch.exp(d)
    return {"reward": d.flip(1).cumsum(1).flip(1), "k3_ratio": d, "k3": ratio - 1}[place]


def kl_pull__only_later_tokens(logprobs, ref_logprobs, mask, place):
    """The table above, place "reward", "k3_ratio" or "k3": three (B, T) -> (B, T)."""
    d = (logprobs - ref_logprobs) * mask
    if place == "reward":
        T = d.size(1)
        later = [d[:, t + 1:].sum(dim=1) for t in range(T)]
        return torch.stack(later, dim=1) * mask
    elif place == "k3_ratio":
        return d
    return 1 - torch.exp(-d)


def kl_pull__times_policy_over_ref(logprobs, ref_logprobs, mask, place):
    """The table above, place "reward", "k3_ratio" or "k3": three (B, T) -> (B, T)."""
    d = (logprobs - ref_logprobs) * mask
    k3 = 1 - torch.exp(-d)
    ratio = torch.exp(d)
    return {"reward": d.flip(1).cumsum(1).flip(1), "k3_ratio": ratio * k3, "k3": k3}[place]


# ---------------------------------------------------------------- aggregate
def aggregate__three_ifs(losses, mask, how, total, length):
    """One loss, how "response", "tokens" or "constant": (B, T), (B, T) -> ()."""
    masked = losses * mask
    if how == "response":
        n = mask.sum(dim=1).clamp(min=1)
        return (masked.sum(dim=1) / n).mean()
    if how == "tokens":
        return masked.sum() / total
    if how == "constant":
        return masked.sum() / (losses.shape[0] * length)


def aggregate__loop_over_reviews(losses, mask, how, total, length):
    """One loss, how "response", "tokens" or "constant": (B, T), (B, T) -> ()."""
    B = len(losses)
    result = losses.new_zeros(())
    for row, keep in zip(losses, mask.bool()):
        tokens = row[keep]
        if len(tokens) == 0:
            continue
        if how == "response":
            result = result + tokens.mean() / B
        elif how == "tokens":
            result = result + tokens.sum() / total
        else:
            result = result + tokens.sum() / (B * length)
    return result


def aggregate__mean_over_padding(losses, mask, how, total, length):
    """One loss, how "response", "tokens" or "constant": (B, T), (B, T) -> ()."""
    losses = losses * mask
    if how == "response":
        return losses.mean(dim=1).mean()
    elif how == "tokens":
        return losses.sum() / total
    return losses.sum() / (losses.size(0) * length)


def aggregate__constant_without_B(losses, mask, how, total, length):
    """One loss, how "response", "tokens" or "constant": (B, T), (B, T) -> ()."""
    per_review = (losses * mask).sum(1)
    return {
        "response": (per_review / mask.sum(1).clamp(min=1)).mean(),
        "tokens": per_review.sum() / total,
        "constant": per_review.sum() / length,
    }[how]


def aggregate__empty_reviews_dropped(losses, mask, how, total, length):
    """One loss, how "response", "tokens" or "constant": (B, T), (B, T) -> ()."""
    sums = (losses * mask).sum(dim=-1)
    if how == "response":
        counts = mask.sum(dim=-1)
        ok = counts > 0
        return (sums[ok] / counts[ok]).mean()
    if how == "tokens":
        return sums.sum() / total
    return (sums / length).mean()


def aggregate__counts_its_own_tokens(losses, mask, how, total, length):
    """One loss, how "response", "tokens" or "constant": (B, T), (B, T) -> ()."""
    masked = losses * mask
    n_tokens = mask.sum()
    if how == "response":
        return (masked.sum(1) / mask.sum(1).clamp(min=1)).mean()
    if how == "tokens":
        return masked.sum() / n_tokens
    return masked.sum() / (len(losses) * length)


def aggregate__width_as_length(losses, mask, how, total, length):
    """One loss, how "response", "tokens" or "constant": (B, T), (B, T) -> ()."""
    B, T = losses.shape
    x = torch.where(mask.bool(), losses, torch.zeros_like(losses))
    if how == "constant":
        return x.sum() / (B * T)
    if how == "tokens":
        return x.sum() / total
    return (x.sum(1) / mask.sum(1).clamp(min=1)).sum() / B


def aggregate__items_in_a_list(losses, mask, how, total, length):
    """One loss, how "response", "tokens" or "constant": (B, T), (B, T) -> ()."""
    masked = losses * mask
    if how == "tokens":
        return masked.sum() / total
    if how == "constant":
        return masked.sum() / (losses.shape[0] * length)
    means = []
    for i in range(losses.shape[0]):
        n = mask[i].sum().item()
        means.append(masked[i].sum().item() / n if n > 0 else 0.0)
    return torch.tensor(means, dtype=losses.dtype).mean()


ANSWERS = [
    ("rloo_advantages", "right", rloo_advantages__loop, "a loop over reviews, mean of the others in a list, rewards detached"),
    ("rloo_advantages", "right", rloo_advantages__no_grad_rows, "under no_grad, rows of G, G/(G-1) times the reward minus the mean of all"),
    ("rloo_advantages", "wrong", rloo_advantages__own_included, "the mean of all G is subtracted, its own reward included"),
    ("rloo_advantages", "wrong", rloo_advantages__detach_only_baseline, "only the baseline is detached; the gradient flows through the review's own KL"),
    ("rloo_advantages", "wrong", rloo_advantages__padding_in_kl, "the KL is summed without the mask, padding counts"),
    ("rloo_advantages", "wrong", rloo_advantages__baseline_without_kl, "the baseline is the mean of the others' scores, not of their rewards R"),
    ("rloo_advantages", "wrong", rloo_advantages__groups_across, "view(G, -1): rows i, i + B/G, ... are taken for a group, not successive rows"),
    ("rloo_advantages", "wrong", rloo_advantages__one_kl_for_the_batch, "sum() without dim: one KL for the whole batch, so it cancels"),

    ("group_advantages", "right", group_advantages__stub_filled, "the stub filled in, vectorised"),
    ("group_advantages", "right", group_advantages__loop, "a loop over groups, standard deviations by hand with n - 1"),
    ("group_advantages", "wrong", group_advantages__biased_std, "standard deviations divided by n, not n - 1"),
    ("group_advantages", "wrong", group_advantages__std_down_the_columns, "\"group\": std over dim 0, across groups; it broadcasts silently"),
    ("group_advantages", "wrong", group_advantages__batch_std_of_centred, "\"batch\": std of the centred rewards, not of all rewards"),
    ("group_advantages", "wrong", group_advantages__batch_mean_for_batch, "\"batch\": the mean of the batch is subtracted, too, not the group's"),
    ("group_advantages", "wrong", group_advantages__eps_after_the_division, "no brackets: 1e-4 is added to the advantage, not to the std"),
    ("group_advantages", "wrong", group_advantages__none_is_raw, "\"none\": the rewards come back as they are, not centred"),

    ("kl_pull", "right", kl_pull__flip, "the stub with the hint's flip, cumsum, flip"),
    ("kl_pull", "right", kl_pull__backwards_loop, "a loop from the last token, expm1"),
    ("kl_pull", "wrong", kl_pull__sum_of_earlier, "\"reward\": cumsum from the start, a token pays for the earlier ones"),
    ("kl_pull", "wrong", kl_pull__mask_only_at_the_end, "\"reward\": masked only after the sum, so padding is summed into real tokens"),
    ("kl_pull", "wrong", kl_pull__k3_value, "\"k3\": the value e^-d - 1 + d, not its derivative"),
    ("kl_pull", "wrong", kl_pull__k3_other_direction, "\"k3\": e^d - 1 in place of 1 - e^-d (log-ratio the other way round)"),
    ("kl_pull", "wrong", kl_pull__only_later_tokens, "\"reward\": only the later tokens, the token itself is left out"),
    ("kl_pull", "wrong", kl_pull__times_policy_over_ref, "\"k3_ratio\": the k3 number times pi/pi_SFT, e^d - 1 in place of d"),

    ("aggregate", "right", aggregate__three_ifs, "vectorised, number of tokens clamped to 1"),
    ("aggregate", "right", aggregate__loop_over_reviews, "a loop over the reviews, empty ones add nothing, B stays"),
    ("aggregate", "wrong", aggregate__mean_over_padding, "\"response\": mean over the padded width T, not over the review's own tokens"),
    ("aggregate", "wrong", aggregate__constant_without_B, "\"constant\": divided by the length only, not by reviews times length"),
    ("aggregate", "wrong", aggregate__empty_reviews_dropped, "\"response\": reviews that are all masked leave the mean"),
    ("aggregate", "wrong", aggregate__counts_its_own_tokens, "\"tokens\": divided by mask.sum(), not by the given total"),
    ("aggregate", "wrong", aggregate__width_as_length, "\"constant\": the width T of the tensor in place of the length limit"),
    ("aggregate", "wrong", aggregate__items_in_a_list, "\"response\": .item() and a new tensor, the value is right, the gradient is lost"),
]
