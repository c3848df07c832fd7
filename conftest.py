"""What every test shares: `torch` in the doctests' namespace."""

import pytest
import torch


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace):
    doctest_namespace["torch"] = torch
