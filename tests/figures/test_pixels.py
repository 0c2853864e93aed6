"""A picture on disk is whole, or the one before."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from extrapo import figures
from extrapo.figures import pixels


def test_saving_replaces_only_whole_files(tmp_path):
    figure = figures.heatmap_figure(np.zeros((1, 8, 8)), title="")
    path = figures.save(figure, tmp_path / "new folder" / "picture.png")
    good = path.read_bytes()
    assert good.startswith(b"\x89PNG")

    def broken(file, **settings):
        file.write(b"half")
        raise OSError("disk full")

    figure.savefig = broken
    with pytest.raises(OSError, match="disk full"):
        figures.save(figure, path)
    assert path.read_bytes() == good
    assert [p.name for p in path.parent.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_equal_pictures_are_equal_files(kind, monkeypatch):
    def drawn():
        rows = [{"length": n, "nll": 2.0, "ppl": 7.4, "low": 1.9, "high": 2.1, "tokens": 9} for n in (64, 128)]
        return pixels.rendered(figures.curve_figure({"rope": rows}, train_length=64, title=""), [kind])[kind]

    first = drawn()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert drawn() == first


def test_a_figure_on_a_screen_stays_there():
    figure = plt.figure()
    try:
        manager, canvas, dpi = figure.canvas.manager, figure.canvas, figure.dpi
        pixels.rendered(figure, ("svg", "png"), dpi=30)
        assert (figure.canvas, figure.canvas.manager, figure.dpi) == (canvas, manager, dpi)
        assert manager is not None
    finally:
        plt.close(figure)
