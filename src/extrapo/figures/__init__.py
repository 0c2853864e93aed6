"""Arrays to pictures, and nothing that computes a model.

curves        perplexity against length
positions     loss against the position in a window
heatmaps      the bias matrices of one layer
masked        what a query does not see, in a colour of its own
distances     what a task finds by how far back it stands
places        what a probe finds, by length and place
theory        far mass, attention, coherence, receptive field: theory_*, in one style
scores        what a task comes to that has no places
timings       what attention and training cost
colours       one fixed colour per encoding
pixels        a figure as a file or as an array
preview       what an encoding looks like before training; it builds the encoding, so it is imported by its own name
"""

from __future__ import annotations

from extrapo.figures.colours import colour
from extrapo.figures.curves import curve_figure
from extrapo.figures.heatmaps import heatmap_figure
from extrapo.figures.pixels import check_place, save, to_array
from extrapo.figures.positions import positions_figure
from extrapo.figures.timings import bench_figure

__all__ = [
    "bench_figure",
    "check_place",
    "colour",
    "curve_figure",
    "heatmap_figure",
    "positions_figure",
    "save",
    "to_array",
]
