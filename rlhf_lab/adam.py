"""Adam, by torch's function instead of torch's class.

Both run the same kernel. But to make a `torch.optim.Adam` loads PyTorch's compiler, which this
package does not use: the first click on Train would wait a second longer for it, and each kernel of
a class server would hold 70 MB more.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor
from torch.optim.adam import adam

from rlhf_lab._checks import takes
from rlhf_lab._require import require_float, said


class Adam:
    """Adam with β₁ = 0.9, β₂ = 0.999, without weight decay.

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  θ ← θ − lr · m̂ / (√v̂ + ε)

    where m̂ = m / (1 − β₁ᵏ) and v̂ = v / (1 − β₂ᵏ) after k steps. The first step has size lr
    whatever the scale of g, unless g is as small as ε.

    Args:
        parameters: each with a gradient when `step` is called.
        lr: step size.
        eps: ε.

    References:
        Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1.
    """

    @takes(lr="coefficient", eps="coefficient")
    def __init__(self, parameters: Iterable[Tensor], *, lr: float, eps: float) -> None:
        self.lr, self.eps = lr, eps
        if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
            raise ValueError(f"parameters must be tensors in a list, got {said(parameters)}")
        parameters = list(parameters)
        if not parameters:
            raise ValueError("parameters must hold at least one tensor, got none")
        for i, parameter in enumerate(parameters):
            if not isinstance(parameter, Tensor) or not parameter.requires_grad:
                raise ValueError(
                    f"parameters[{i}] must be a tensor that requires a gradient, got "
                    f"{said(parameter)}"
                )
            require_float(f"parameters[{i}]", parameter)
        self.state = {
            parameter: {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            for parameter in parameters
        }
        """k, m and v of each parameter, under torch's names."""

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients, which are forgotten afterwards."""
        if any(parameter.grad is None for parameter in self.state):
            raise ValueError("a parameter has no gradient: call backward() on a loss before step()")
        moments = self.state.values()
        adam(
            list(self.state),
            cast(list[Tensor], [parameter.grad for parameter in self.state]),
            [each["exp_avg"] for each in moments],
            [each["exp_avg_sq"] for each in moments],
            [],  # their maxima: amsgrad's
            [each["step"] for each in moments],
            fused=True, amsgrad=False, maximize=False, weight_decay=0.0,
            beta1=0.9, beta2=0.999, lr=self.lr, eps=self.eps,
        )  # fmt: skip
        self.zero_grad()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.state:
            parameter.grad = None
