"""A trained run as lm-evaluation-harness asks it: likelihoods of answers, of whole texts, and what it writes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from extrapo.errors import UserError
from extrapo.evaluation.probes import Likelihood
from extrapo.evaluation.probes.likelihood import likelihoods
from extrapo.run.evaluate import available
from extrapo.run.generate import Sampling, generate_ids
from extrapo.run.load import load
from extrapo.run.probe import next_tokens

#: Tokens that a task's answer has at most where it does not say.
GENERATED = 256


@register_model("extrapo")
class Extrapo(TemplateLM):
    """A trained run, as `extrapo.load` finds it.

    Args:
        run: its id, the beginning of it, its name, `last`, or a path.
        root: folder of all runs.
        tracking_uri: MLflow server or database.
        length: the most tokens that the model sees at once; None is all of a request, and the training length for
            `loglikelihood_rolling`, which is of texts of any length.
        device: auto, cpu or cuda.
        impl, skip: compute path of attention.
        batch_tokens: tokens in one forward pass.
        others: what the harness tells every model, and this one needs not.
    """

    def __init__(
        self,
        run: str = "last",
        root: str = "runs",
        tracking_uri: str | None = None,
        length: int | None = None,
        device: str | None = None,
        impl: str | None = None,
        skip: float | None = None,
        batch_tokens: int = 4096,
        **others: Any,
    ) -> None:
        super().__init__()
        # The harness says cuda:0 where nobody says anything.
        self._device = torch.device(available("auto" if device in (None, "cuda:0") else device))
        self.run = load(run, root=Path(root), tracking_uri=tracking_uri, device=self._device, impl=impl, skip=skip)
        self.length, self.batch_tokens = length, batch_tokens

    @property
    def eot_token_id(self) -> int:
        """The separator of documents."""
        return self.run.tokenizer.separator

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in the harness's caches."""
        return self.run.tokenizer.sha256

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """The ids of a text; no separator is put before it."""
        return self.run.tokenizer.encode(string)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str] | None, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        found = self._likelihoods([(context, answer) for _, context, answer in requests])
        results = [(one.log, one.greedy > 0.5) for one in found]
        for (asked, _, _), result in zip(requests, results, strict=True):
            if asked is not None:
                self.cache_hook.add_partial("loglikelihood", asked, result)
        return results

    def _likelihoods(self, pairs: list[tuple[list[int], list[int]]]) -> list[Likelihood]:
        most = None if self.length is None else self.length + 1
        texts = [np.array([*context, *answer][-most if most else None :], dtype=np.int64) for context, answer in pairs]
        sizes = [len(answer) for _, answer in pairs]
        if most is not None and max(sizes, default=0) >= most:
            raise UserError(f"`length` {self.length} is less than the {max(sizes)} tokens of an answer")
        with torch.no_grad():
            return likelihoods(
                texts, sizes, next_tokens(self.run.model), device=self._device, batch_tokens=self.batch_tokens
            )

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Of whole texts, the separator before them: each token once, with as much before it as the length allows."""
        length = self.length or self.run.config.seq_len
        windows: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            (text,) = request.args
            cut = get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, length, 1)
            windows += [make_disjoint_window(window) for window in cut]
            owners += [number] * (len(windows) - len(owners))
        totals = [0.0] * len(requests)
        for owner, one in zip(owners, self._likelihoods(windows), strict=True):
            totals[owner] += one.log
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Texts up to the first of some strings, or to a separator."""
        return [self._generate(*request.args) for request in requests]

    def _generate(self, context: str, options: dict[str, Any]) -> str:
        until = options.get("until") or []
        until = [until] if isinstance(until, str) else until
        count = int(options.get("max_gen_toks", GENERATED))
        warm = bool(options.get("do_sample")) or float(options.get("temperature", 0.0)) > 0
        sampling = Sampling(
            temperature=float(options.get("temperature", 1.0)) if warm else 0.0,
            top_k=options.get("top_k"),
            top_p=float(options.get("top_p", 1.0)),
        )
        ids = self.tok_encode(context) or [self.eot_token_id]
        # As much of what is asked as leaves room for the answer.
        ids = ids if self.length is None else ids[-max(1, self.length - count) :]
        written: list[int] = []
        text = ""
        for one in islice(generate_ids(self.run.model, torch.tensor(ids, device=self._device), sampling), count):
            if one == self.eot_token_id:
                break
            written.append(one)
            text = self.run.tokenizer.decode(written)
            ends = [text.index(end) for end in until if end in text]
            if ends:
                text = text[: min(ends)]
                break
        self.cache_hook.add_partial("generate_until", (context, options), text)
        return text
