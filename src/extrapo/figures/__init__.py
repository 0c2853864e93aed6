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
style         how everything is drawn: colours, markers, dashes, axes; shades the colours of a map of biases
mean_bias, sentence_bias, passage    biases as in Cable's figures 7 and 8, and the increments over a text
kernel_forms  the kernels side by side
gain          what more context is worth
explorer/     the page in which to point at a pair of tokens; imported by its own name
plain         Matplotlib's own settings, and nobody's matplotlibrc
pixels        a figure as a file or as an array
preview       what an encoding looks like before training; it builds the encoding, so it is imported by its own name
"""

from __future__ import annotations

from extrapo.figures.curves import curve_figure
from extrapo.figures.heatmaps import heatmap_figure
from extrapo.figures.pixels import check_place, of_file, rendered, save, save_pixels, to_array
from extrapo.figures.positions import positions_figure
from extrapo.figures.style import colour
from extrapo.figures.timings import bench_figure

__all__ = [
    "bench_figure",
    "check_place",
    "colour",
    "curve_figure",
    "heatmap_figure",
    "of_file",
    "positions_figure",
    "rendered",
    "save",
    "save_pixels",
    "to_array",
]
