"""extrapo fit: train, draw the curve and the heatmaps, record all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from extrapo.cli.configuration import merged, to_yaml
from extrapo.cli.flags import Flags, Json
from extrapo.cli.following import following
from extrapo.errors import Interrupted, UserError
from extrapo.location import Location


def fit(
    *,
    run: Annotated[Flags, Parameter(name="*")] = Flags(),  # noqa: B008
    config: Annotated[
        tuple[Path, ...],
        Parameter(
            help="YAML file with the same keys; repeatable, later files win, flags win over files.",
            negative=(),
        ),
    ] = (),
    resume: Annotated[
        str | None,
        Parameter(help="Continue a run where it stopped: its id, the start of it, its name, or `last`."),
    ] = None,
    print_config: Annotated[bool, Parameter(help="Print the merged configuration and stop.", negative=())] = False,
    json: Json = False,
) -> int:
    """Train a model, measure its perplexity past the training length, draw its biases, record all of it in MLflow."""
    if resume is not None:
        fixed = run.model_fields_set - {"root", "tracking_uri"}
        if fixed or config:
            flag = f"--{min(fixed).replace('_', '-')}" if fixed else "--config"
            raise UserError(f"--resume continues a run as it was configured: leave {flag} out")
    settings = merged(config, run)
    if print_config:
        if settings.init is not None:
            from extrapo.run.initial import Start

            settings = Start.of(settings).continued(settings)
        resolved = settings.resolved()
        from extrapo.gpt import stacks

        stacks(resolved.gpt(resolved.vocab_size))
        print(to_yaml(resolved), end="")
        return 0

    from extrapo.terminal import Output

    location = Location.of(settings)
    if resume is not None:
        from extrapo.run.find import check_known

        check_known([resume], location)
    output = Output(json=json)
    output.waiting("loading PyTorch and Lightning ...")
    from extrapo.run.fit import fit as train
    from extrapo.run.resume import resume as continue_run

    try:
        result = train(settings, output) if resume is None else continue_run(resume, location, output)
    except Interrupted as stop:
        go_on = f"{following(['fit', '--resume', stop.run_id[:8]], settings)}"
        output.say(f"interrupted; what was saved is not lost. Continue with: {go_on}")
        return 130
    if not result.run_id:  # another rank of the same run: the first one reports
        return 0
    if result.interrupted_at is not None:
        output.say(
            f"interrupted at step {result.interrupted_at} of {result.config.steps}; nothing is lost. "
            f"Continue with: {following(['fit', '--resume', result.run_id[:8]], settings)}"
        )
        if json:
            output.document(result.summary())
        return 130
    output.curve([point.row() for point in result.points], result.config.seq_len)
    output.say(f"checkpoint: {result.checkpoint}")
    if result.picture is not None:
        output.say(f"picture:    {result.picture}")
    if result.heatmap is not None:
        output.say(f"heatmap:    {result.heatmap}")
    output.say(f"in MLflow:  {following(['ui', '--run', result.run_id[:8]], settings)}")
    if json:
        output.document(result.summary())
    return 0
