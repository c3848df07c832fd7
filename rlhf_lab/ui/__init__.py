"""What students click: the only part of the package that needs ipywidgets and matplotlib."""

from rlhf_lab.ui.cockpit import Cockpit
from rlhf_lab.ui.explorer import Explorer, optimum_figure
from rlhf_lab.ui.knobs import Knobs
from rlhf_lab.ui.landscape import landscape
from rlhf_lab.ui.predict import Prediction
from rlhf_lab.ui.show import show

__all__ = [
    "Cockpit",
    "Explorer",
    "Knobs",
    "Prediction",
    "landscape",
    "optimum_figure",
    "show",
]
