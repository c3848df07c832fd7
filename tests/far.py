"""A second device, "far", for machines without one; the CPU computes its numbers.

As on a GPU, an operation refuses tensors of both sides and random numbers from the other side's
generator, and NumPy cannot look at a far tensor. What is told apart is *where* a tensor lives, not
when it is ready or how it is rounded. A process that has called `register` keeps it, and must
have called it before its first `backward`: hence `process`.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import torch
from torch.utils import _pytree, backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing

COPY, MOVE = torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default
FACTORIES = (
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_strided.default,
    # Torch would start with an empty tensor and let it grow, which a wrapped tensor cannot do.
    torch.ops.aten.arange.default,
    torch.ops.aten.arange.start,
    torch.ops.aten.arange.start_step,
    torch.ops.aten.eye.default,
)


class Far(torch.Tensor):
    """A tensor of the far device; it wraps the CPU tensor that holds its numbers."""

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> "Far":
        far = torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device="far:0",
        )
        far.near = near
        return far

    def tolist(self) -> Any:
        return self.near.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("a far tensor has no numpy(); use .cpu() first")

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return call(operation, args, kwargs or {})


def call(operation: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Do an operation on the CPU, if a GPU would accept its arguments."""
    tensors = [x for x in _pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    # A single number may be on the CPU.
    near = [x for x in tensors if x.dim() and not isinstance(x, Far)]
    if near and len(near) < len(tensors) and operation not in (COPY, MOVE):
        raise RuntimeError(f"{operation} of a far tensor and one on the CPU, {near[0].shape}")
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"{operation} on the far device with a generator on the CPU")
    to = args[0].device if operation is COPY else kwargs.get("device") or "far"
    if "device" in kwargs:
        kwargs = kwargs | {"device": "cpu"}
    result = operation(*_bring(args), **_bring(kwargs))
    if torch.device(to).type == "cpu":
        return result
    result = _pytree.tree_map_only(torch.Tensor, Far, result)
    if operation in (*FACTORIES, MOVE):
        return result
    if any(x.shape != x.near.shape for x in tensors if isinstance(x, Far)):
        raise NotImplementedError(f"{operation} made a tensor grow; add its factory to FACTORIES")
    return return_and_correct_aliasing(operation, args, kwargs, result)


def _bring(tree: Any) -> Any:
    return _pytree.tree_map_only(Far, lambda far: far.near, tree)


def register() -> None:
    """Give this process a device named "far"."""
    torch.set_num_threads(1)
    backend_registration._setup_privateuseone_for_python_backend("far")
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="far") begins on the CPU
    for factory in FACTORIES:
        torch.library.impl(factory.name(), "PrivateUse1")(
            lambda *args, of=factory, **kwargs: call(of, args, kwargs)
        )


@pytest.fixture(scope="session")
def process() -> Iterator[Callable]:
    """Calls a function, by its name, in a process where "far" is a device."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch cannot register a device from Python")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=register) as pool:
        yield lambda function, *args: pool.submit(function, *args).result()
