"""What the tests of this folder share: the words of a figure; and a matplotlibrc with which nothing could be drawn."""

import matplotlib
import pytest

from extrapo.figures.plain import plainly


@pytest.fixture(autouse=True)
def settings_of_others():
    """LaTeX sets all text, and does not know what to make of it."""
    with matplotlib.rc_context({"text.usetex": True, "text.latex.preamble": r"\nonsense", "savefig.format": "none"}):
        yield


@pytest.fixture(scope="session")
def texts():
    """Reads all text of a figure."""

    def read(figure):
        with plainly():
            figure.draw_without_rendering()
        return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))

    return read
