"""A finished figure as a file, or as an array of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extrapo.errors import UserError
from extrapo.figures.plain import plainly
from extrapo.files import atomic_write, check_writable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Points per inch of what is printed.
PRINT = 300
#: What says when a picture was made, by format; nobody is to.
DATES: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
#: What a picture is saved as.
FORMATS = (".png", ".pdf", ".svg", ".jpg", ".webp")


def check_place(path: Path) -> None:
    """Whether a picture could be saved at `path`, before anybody works for it.

    Raises:
        UserError: no known kind of picture, or no place for a file.
        MachineError: its folder cannot be written.
    """
    if not path.is_dir() and path.suffix.lower() not in FORMATS:
        raise UserError(f"'{path}' is no picture: its name ends in {', '.join(FORMATS)}")
    check_writable(path)


def save(figure: Figure, path: Path, dpi: float | None = PRINT) -> Path:
    """Write the picture in the format of its suffix; a half-written file never replaces a good one.

    Args:
        figure: the picture.
        path: the file.
        dpi: points per inch of raster formats; None for the figure's own, for a screen.
    """
    with atomic_write(path) as file:
        _write(figure, file, path.suffix.removeprefix("."), dpi)
    return path


@plainly()
def rendered(figure: Figure, kinds: Sequence[str] = ("svg", "pdf"), dpi: float | None = None) -> dict[str, bytes]:
    """The picture as files that are not written yet, by format."""
    from matplotlib.backend_bases import get_registered_canvas_class

    # Everything finds its place once. `savefig` draws the whole picture for that, and again for each format.
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")
    found, own, shown = {}, figure.dpi, figure.canvas
    for kind in kinds:
        try:
            canvas: Any = get_registered_canvas_class(kind)(figure)
            figure.dpi = dpi or own
            with BytesIO() as file, _alike():
                getattr(canvas, f"print_{kind}")(file, metadata=DATES.get(kind))
                found[kind] = file.getvalue()
        finally:
            # Where it is on a screen it stays there.
            figure.dpi = own
            figure.set_canvas(shown)
    return found


@plainly()
def _write(figure: Figure, file: IO[bytes], kind: str, dpi: float | None) -> None:
    with _alike():
        figure.savefig(file, format=kind, dpi=dpi or "figure", metadata=DATES.get(kind))


def _alike() -> AbstractContextManager[None]:
    """Equal pictures are equal files: without names that are drawn by lot, and with DATES without the moment."""
    import matplotlib

    return matplotlib.rc_context({"svg.hashsalt": "extrapo"})


@plainly()
def save_pixels(pixels: NDArray[np.uint8], path: Path) -> Path:
    """Write pixels (height, width, 3) as they are."""
    from matplotlib.image import imsave

    with atomic_write(path) as file:
        imsave(file, pixels, format=path.suffix.removeprefix("."))
    return path


@plainly()
def to_array(figure: Figure) -> NDArray[np.uint8]:
    """The picture as pixels, (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()


def of_file(path: Path) -> NDArray[np.uint8]:
    """The pixels of a picture that `save` wrote as PNG, (height, width, 3)."""
    from matplotlib.image import imread

    picture: NDArray[np.uint8] = np.rint(255 * np.asarray(imread(path))[..., :3]).astype(np.uint8)
    return picture
