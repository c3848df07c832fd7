"""A figure in a cell's output: it must be described."""

import pytest

from rlhf_lab import plots
from rlhf_lab.ui import show


def test_a_figure_must_be_described():
    figure, _ = plots.new_figure(2, 1)
    _, metadata = show(figure, "bars")._repr_mimebundle_()
    assert metadata["image/png"] == {"alt": "bars", "width": 220}
    with pytest.raises(ValueError, match="alt must say what the figure shows"):
        show(figure, " ")
