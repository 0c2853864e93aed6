"""extrapo show: what an encoding is and looks like, or what the biases of a trained model have become."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from extrapo.config import Count, EncodingFormSettings, StoreSettings, Width
from extrapo.errors import UserError
from extrapo.location import Location

#: Numbers of all matrices that are drawn.
MOST = 2**28


def show(
    what: Annotated[str, Parameter(help="An encoding, or a run (id, the start of it, name, `last`) or checkpoint.")],
    /,
    *,
    form: Annotated[EncodingFormSettings, Parameter(name="*")] = EncodingFormSettings(),  # noqa: B008
    heads: Annotated[Width, Parameter(help="Heads that are drawn.")] = 8,
    head_dim: Annotated[Width, Parameter(help="Width of a head.")] = 64,
    length: Annotated[Count, Parameter(help="Tokens of the drawn text.")] = 128,
    output: Annotated[Path | None, Parameter(help="The picture (a folder for a run) [NAME.png].")] = None,
    store: Annotated[StoreSettings, Parameter(name="*")] = StoreSettings(),  # noqa: B008
) -> int:
    """Draw the bias and the coherence of an encoding at its start, or the biases of a trained model, layer by layer."""
    from extrapo import catalogue, encodings, figures
    from extrapo.encodings.per_layer import pattern
    from extrapo.reading import path_of
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
    if is_encoding:
        from extrapo.figures.preview import panels, preview_figure

        if output is not None:
            figures.check_place(path_of(output))
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
        raise UserError(f"'{what}' is neither an encoding ({reason}) nor a run ({cause})") from cause
    title, biases = trained_biases(checkpoint, length, out.say)
    folder = output or Path(f"{checkpoint.parent.name[:8]}-biases")
    folder.mkdir(parents=True, exist_ok=True)
    for layer, bias in enumerate(biases):
        path = folder / f"layer-{layer:02d}.png"
        figures.save(figures.heatmap_figure(bias, title=f"{title}, layer {layer}"), path)
        out.say(f"picture: {path}")
    return 0
