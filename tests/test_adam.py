"""Our Adam is torch's, without what torch loads for it."""

import subprocess
import sys

import torch
from torch.testing import assert_close

from rlhf_lab.adam import Adam


def parameters() -> list[torch.Tensor]:
    stream = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=stream, requires_grad=True) for shape in ((3, 4), (5,))]


def test_ten_steps_are_those_of_torch_to_the_last_bit():
    ours, theirs = parameters(), parameters()
    adam = Adam(ours, lr=0.01, eps=1e-5)
    reference = torch.optim.Adam(theirs, lr=0.01, eps=1e-5, fused=True)
    stream = torch.Generator().manual_seed(1)
    for _ in range(10):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=stream)
            other.grad = mine.grad.clone()
        adam.step()
        reference.step()
        assert all(parameter.grad is None for parameter in ours)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
        assert adam.state[mine].keys() == reference.state[other].keys()
        assert all(torch.equal(reference.state[other][k], v) for k, v in adam.state[mine].items())


def test_it_is_the_equation():
    x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    adam, m, v, expected = Adam([x], lr=0.1, eps=1e-3), 0.0, 0.0, x.detach().clone()
    for k, g in enumerate(torch.tensor([[0.3, -5.0], [0.1, 2.0]], dtype=torch.float64), start=1):
        x.grad = g.clone()
        adam.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected = expected - 0.1 * (m / (1 - 0.9**k)) / ((v / (1 - 0.999**k)).sqrt() + 1e-3)
    assert_close(x.detach(), expected, rtol=1e-12, atol=1e-12)


def test_training_does_not_load_the_compiler():
    """It is the largest part of PyTorch: a second, and 70 MB in every student's kernel."""
    code = (
        "import sys; from rlhf_lab import PPOConfig, Trainer, load_world\n"
        "Trainer(load_world(), PPOConfig(batch_size=8)).step()\n"
        "print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
