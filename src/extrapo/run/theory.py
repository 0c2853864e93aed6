"""What the papers' conditions come to in a trained run: measured length by length, resumable, recorded in the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extrapo.attention import check_impl
from extrapo.config import InferenceSettings
from extrapo.config.evaluation import default_lengths
from extrapo.data import Corpus, prepare
from extrapo.errors import NotApplicable, UserError
from extrapo.evaluation.theory.measured_verdicts import measured_verdicts
from extrapo.evaluation.theory.of_model import analytic_rows, of_model
from extrapo.evaluation.theory.summary import mean_rows
from extrapo.figures.theory import theory_figures
from extrapo.files import write_text
from extrapo.location import Location
from extrapo.run.evaluate import available
from extrapo.run.load import LoadedRun, check_finite, find_checkpoint, load, sibling_file
from extrapo.run.reporter import Reporter, Silent
from extrapo.tracking.tables import finite
from extrapo.tracking.theory import record_theory

#: What has been measured so far, in the run's folder.
MEASURED = "theory.json"
LISTS = ("heads", "distances", "coherence", "contextual", "fields")


def theory(
    run: str,
    location: Location,
    reporter: Reporter = Silent(),  # noqa: B008
    settings: InferenceSettings = InferenceSettings(),  # noqa: B008
    *,
    lengths: Sequence[int] | None = None,
    texts: int = 4,
    data: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """The document of a trained run, see docs/theory.md; lengths that were measured before are not measured again.

    Args:
        run: a run, or the path of a checkpoint.
        location: where the run is recorded.
        reporter: where progress goes.
        settings: compute path of attention.
        lengths: in tokens; None for T/2, T, 2T, 4T, 8T, 16T, those that the text has.
        texts: stretches of the validation text at each length, at most.
        data: another text.
        device: auto, cpu or cuda.

    Raises:
        UserError: no such run, or a text that is shorter than a length.
    """
    check_impl(settings.impl)
    checkpoint = find_checkpoint(run, location)
    loaded = load(checkpoint, device=available(device), impl=settings.impl, skip=settings.skip)
    check_finite(loaded.model, checkpoint)
    config, folder = loaded.config, checkpoint.parent
    tokenizer = sibling_file(checkpoint, "tokenizer.json")
    corpus = prepare(data or config.data, tokenizer=f"file:{tokenizer}", say=reporter.say)
    chosen = fitting(lengths, config.seq_len, len(corpus.validation), reporter)
    reporter.say(f"{config.encoding}, {config.layers} layers, trained at {config.seq_len}, on {corpus.name}: theory")
    key = fingerprint(checkpoint, corpus, texts)
    measured = read_measured(folder / MEASURED, key)
    with reporter.curve_progress() as progress:
        for length in chosen:
            if str(length) in measured:
                continue
            windows = stretches(corpus, length, texts).to(next(loaded.model.parameters()).device)

            def step(done: int, total: int, length: int = length) -> None:
                if progress is not None:
                    progress(length, done, total)

            try:
                measured[str(length)] = finite(of_model(loaded.model, windows, config.seq_len, step))
            except NotApplicable as why:
                measured[str(length)] = {"note": str(why)}
            write_text(folder / MEASURED, json.dumps({"key": key, "lengths": measured}))
    document = assembled(loaded, {length: measured[str(length)] for length in chosen}, corpus)
    pictures = theory_figures(document, folder / "theory")
    record_theory(location, folder.name, document, pictures)
    return document | {"pictures": [str(path) for path in pictures]}


def fitting(lengths: Sequence[int] | None, train_length: int, available: int, reporter: Reporter) -> list[int]:
    """The lengths that are asked for, or of the default ones those that the text has; UserError where there is none."""
    if lengths is not None and not lengths:
        raise UserError("`lengths` is empty: leave it out for the default ones")
    if lengths is not None:
        if max(lengths) + 1 > available:
            raise UserError(
                f"the validation text has {available:,} tokens: `lengths` must stay below, not {max(lengths):,}"
            )
        return sorted(set(lengths))
    every = default_lengths(train_length)
    chosen = [length for length in every if length + 1 <= available]
    if not chosen:
        raise UserError(f"the validation text has {available:,} tokens, fewer than {every[0]:,}")
    if len(chosen) < len(every):
        reporter.say(f"the validation text has {available:,} tokens: longer lengths are left out")
    return chosen


def stretches(corpus: Corpus, length: int, texts: int) -> torch.Tensor:
    """(N, L + 1) ids of up to so many stretches of the validation text, spread over it, without an overlap."""
    count = min(texts, (len(corpus.validation) - 1) // length)
    apart = (len(corpus.validation) - 1) // count
    rows = [np.asarray(corpus.validation[i * apart : i * apart + length + 1], dtype=np.int64) for i in range(count)]
    return torch.from_numpy(np.stack(rows))


def fingerprint(checkpoint: Path, corpus: Corpus, texts: int) -> dict[str, Any]:
    """What measurements belong to: other weights, text or number of stretches begin anew."""
    with checkpoint.open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return {"checkpoint": weights, "corpus": corpus.sha256, "texts": texts, "version": 2}


def read_measured(path: Path, key: Mapping[str, Any]) -> dict[str, Any]:
    """Length -> what was measured of the same thing before."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict) or document.get("key") != dict(key):
        return {}
    lengths = document.get("lengths")
    return lengths if isinstance(lengths, dict) else {}


def assembled(loaded: LoadedRun, measured: Mapping[int, Mapping[str, Any]], corpus: Corpus) -> dict[str, Any]:
    """The document of all lengths."""
    config = loaded.config
    found: dict[str, list[dict[str, Any]]] = {
        name: [row for of_length in measured.values() for row in of_length.get(name, [])] for name in LISTS
    }
    for row in found["contextual"]:
        for end in ("most", "least"):
            row[f"{end}_text"] = [loaded.tokenizer.decode([token]) for token, _, _ in row[end]]
    applicable = [length for length, of_length in measured.items() if "note" not in of_length]
    analytic = analytic_rows(loaded.model, applicable) if applicable else []
    said = measured_verdicts(found, config.seq_len)
    return {
        "encoding": config.encoding,
        "run": loaded.checkpoint.parent.name,
        "train_length": config.seq_len,
        "corpus": corpus.name,
        "rows": mean_rows([*found["heads"], *analytic]),
        **found,
        "analytic": analytic,
        "verdicts": {claim: verdict.holds for claim, verdict in said.items()},
        "reasons": {claim: verdict.why for claim, verdict in said.items()},
        "notes": {str(length): of_length["note"] for length, of_length in measured.items() if "note" in of_length},
    }
