"""What a person reads in the terminal. The progress of training is in `progress`, which loads Lightning."""

from __future__ import annotations

from extrapo.terminal.curve import curve_plot, curve_protocol, curve_table
from extrapo.terminal.output import Output

__all__ = ["Output", "curve_plot", "curve_protocol", "curve_table"]
