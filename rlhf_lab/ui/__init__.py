"""What students click: explorer, cockpit, knobs, prediction boxes. Only `ui` needs widgets."""

from rlhf_lab.ui.cockpit import Cockpit
from rlhf_lab.ui.explorer import Explorer
from rlhf_lab.ui.explorer_still import optimum_figure
from rlhf_lab.ui.image import show
from rlhf_lab.ui.knobs import Knobs
from rlhf_lab.ui.optima import landscape
from rlhf_lab.ui.predict import Prediction

__all__ = ["Cockpit", "Explorer", "Knobs", "Prediction", "landscape", "optimum_figure", "show"]
