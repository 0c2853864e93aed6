"""extrapo show: what an encoding is and looks like, or what the biases of a trained model have become."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from extrapo.cli.flags import MODEL, FormFlags, Store, StoreFlags, Written, check_used
from extrapo.config import Count, CountOrZero, Width
from extrapo.errors import UserError
from extrapo.location import Location

if TYPE_CHECKING:
    from extrapo.terminal import Output

#: Numbers of all matrices that are drawn.
MOST = 2**28
#: Of an encoding that is drawn, unless others are asked for.
HEADS, WIDTH, LENGTH = 8, 64, 128


def show(
    what: Annotated[str, Parameter(help="An encoding, or a run (id, the start of it, name, `last`) or checkpoint.")],
    /,
    *,
    form: Annotated[FormFlags, Parameter(name="*")] = FormFlags(),  # noqa: B008
    heads: Annotated[Width, Parameter(help="Heads that are drawn.", group=MODEL)] = HEADS,
    head_dim: Annotated[Width, Parameter(help="Width of a head.", group=MODEL)] = WIDTH,
    length: Annotated[Count, Parameter(help="Tokens of the drawn text.")] = LENGTH,
    output: Annotated[Written | None, Parameter(help="The picture (a folder for a run) [NAME.png].")] = None,
    picture: Annotated[
        Literal["mean-bias", "sentence", "increments", "context-gain"] | None,
        Parameter(help="Of a run: another picture of it [the heatmaps of all layers]."),
    ] = None,
    text: Annotated[str | None, Parameter(help="What is shown in it [the start of the validation text].")] = None,
    layer: Annotated[CountOrZero | None, Parameter(help="The layer that it shows [the last, or all].")] = None,
    explore: Annotated[
        bool, Parameter(help="Of a run: write the page to point at its biases in, and open it.", negative=())
    ] = False,
    store: Store = StoreFlags(),  # noqa: B008
) -> int:
    """Draw the bias and the coherence of an encoding at its start, or the biases of a trained model, layer by layer."""
    from extrapo import catalogue, encodings, figures
    from extrapo.encodings.per_layer import pattern
    from extrapo.terminal import Output

    out = Output()
    if heads * length**2 > MOST:
        raise UserError(f"--length {length} with {heads} heads is more than a picture shows: draw a shorter text")
    try:
        names = list(dict.fromkeys(pattern(what)))
        for name in names:
            encodings.split(name)
        is_encoding = True
    except UserError as cause:
        is_encoding, reason = False, cause
    for_runs = {"explore": explore, "picture": picture, "text": text is not None, "layer": layer is not None}
    for_encodings = {
        "heads": heads != HEADS,
        "head_dim": head_dim != WIDTH,
        "kernel": form.kernel,
        "encoding_options": form.encoding_options,
    }
    if is_encoding:
        check_used(for_runs, f"'{what}' is an encoding, not a trained run")
        from extrapo.figures.preview import panels, preview_figure

        if output is not None:
            figures.check_place(output)
        for name in names:
            for line in catalogue.card(name):
                out.say(line)
        drawn = panels(
            what, heads=heads, head_dim=head_dim, length=length, kernel=form.kernel, options=form.encoding_options
        )
        path = output or Path(f"{what}.png")
        figures.save(preview_figure(what, drawn), path)
        out.say(f"picture: {path}")
        return 0
    out.waiting("loading PyTorch and Lightning ...")
    from extrapo.run.evaluate import trained_biases
    from extrapo.run.find import find_checkpoint

    try:
        checkpoint = find_checkpoint(what, Location.of(store))
    except UserError as cause:
        if what == "last":
            raise
        raise UserError(f"'{what}' is neither an encoding ({reason}) nor a run ({cause})") from cause
    check_used(for_encodings, f"'{what}' is a trained run, not an encoding")
    if picture is None:
        check_used({name: for_runs[name] for name in ("text", "layer")}, "without `picture` all layers are drawn")
    if explore:
        check_used({name: for_runs[name] for name in ("picture", "text", "layer")}, "the page shows all of a run")
    if explore or picture is not None:
        check_used({"length": length != LENGTH}, "only the heatmaps of all layers have a length")
    if explore:
        return open_explorer(str(checkpoint), Location.of(store), out, output)
    if picture is not None:
        return draw(picture, str(checkpoint), Location.of(store), out, output, text, layer)
    title, biases = trained_biases(checkpoint, length, out.say)
    folder = output or Path(f"{checkpoint.parent.name[:8]}-biases")
    folder.mkdir(parents=True, exist_ok=True)
    for layer, bias in enumerate(biases):
        path = folder / f"layer-{layer:02d}.png"
        figures.save(figures.heatmap_figure(bias, title=f"{title}, layer {layer}"), path)
        out.say(f"picture: {path}")
    return 0


def open_explorer(run: str, location: Location, out: Output, output: Path | None) -> int:
    """Write the page of a run, say where it is, and show it where people look at a screen."""
    import webbrowser

    from extrapo.run.explore import explore

    path = explore(run, location, out, output=output)
    out.say(f"explorer: {path}")
    if sys.stdout.isatty():
        webbrowser.open(path.resolve().as_uri())
    return 0


def draw(
    name: str, run: str, location: Location, out: Output, output: Path | None, text: str | None, layer: int | None
) -> int:
    """Draw one picture of a run: in the format of `output`, or in all of them."""
    from extrapo import figures
    from extrapo.figures.style import save_all
    from extrapo.run.pictures import picture

    if output is not None:
        figures.check_place(output)
    figure = picture(run, name, location, out, text=text, layer=layer)
    stem = f"{Path(run).parent.name[:8]}-{name}"
    for path in save_all(figure, Path(), stem) if output is None else [figures.save(figure, output)]:
        out.say(f"picture: {path}")
    return 0
