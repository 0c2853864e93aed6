"""A picture on disk is whole, or the one before."""

import numpy as np
import pytest

from extrapo import figures


def test_saving_replaces_only_whole_files(tmp_path):
    figure = figures.heatmap_figure(np.zeros((1, 8, 8)), title="")
    path = figures.save(figure, tmp_path / "new folder" / "picture.png")
    good = path.read_bytes()
    assert good.startswith(b"\x89PNG")

    def broken(file, format, dpi):
        file.write(b"half")
        raise OSError("disk full")

    figure.savefig = broken
    with pytest.raises(OSError, match="disk full"):
        figures.save(figure, path)
    assert path.read_bytes() == good
    assert [p.name for p in path.parent.iterdir()] == ["picture.png"]
