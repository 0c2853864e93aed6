"""What the tests of this folder share: the words of a figure."""

import pytest


@pytest.fixture(scope="session")
def texts():
    """Reads all text of a figure."""

    def read(figure):
        figure.draw_without_rendering()
        return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))

    return read
