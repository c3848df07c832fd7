"""What every test shares: `torch` in the doctests' namespace, and a folder for the exact tables.

All processes of a run, the notebooks' kernels too, map the same tables; nothing is written into
the home of whoever runs the tests.
"""

import os
import shutil
import tempfile

import pytest
import torch


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers inherit the variable
        config.table_folder = os.environ["RLHF_LAB_CACHE"] = tempfile.mkdtemp(prefix="rlhf_lab-")
        os.environ["RLHF_LAB_PROGRESS"] = "off"  # nbval compares all that a cell shows


def pytest_unconfigure(config):
    if hasattr(config, "table_folder"):
        shutil.rmtree(config.table_folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace):
    doctest_namespace["torch"] = torch
