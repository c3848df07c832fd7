"""Names that the doctests of the package use, and printing that is equal on every platform."""

import pytest
import torch


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace):
    doctest_namespace["torch"] = torch
