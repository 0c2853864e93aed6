"""lm-evaluation-harness asks a model of ours, and comes to what our own tasks and formulas come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from extrapo.config import ProbeSettings, RunConfig
from extrapo.errors import UserError
from extrapo.evaluation.probes import PROBES, run_probe
from extrapo.run.fit import Result, fit
from extrapo.run.load import load
from extrapo.run.probe import next_tokens

needed = pytest.mark.skipif(find_spec("lm_eval") is None, reason='needs pip install "extrapo[harness]"')

ITEMS = [
    {
        "activity_label": f"Task {i}",
        "ctx_a": f"One takes {i} apples.",
        "ctx_b": "then one",
        "ctx": f"One takes {i} apples. then one",
        "label": i % 4,
        "endings": [f"eats {i} of them.", "sings — loudly.", f"gives {i * i} away to all", "sleeps."],
    }
    for i in range(12)
]
TASKS = {
    "apples": """
task: apples
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/items.json}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{activity_label}}: {{ctx_a}} {{ctx_b.capitalize()}}"
doc_to_target: label
doc_to_choice: endings
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "texts": """
task: texts
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/items.json}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{activity_label}} {{ctx_a}} {{endings|join(' ')}}"
metric_list: [{metric: bits_per_byte}]
""",
    "writes": """
task: writes
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/items.json}}
test_split: test
output_type: generate_until
doc_to_text: "{{ctx_a}}"
doc_to_target: "{{ctx_b}}"
generation_kwargs: {until: ["e"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("harness")
    (folder / "text.txt").write_text(" ".join(f"{i} squared is {i * i}." for i in range(400)))
    return fit(
        RunConfig(
            layers=1, heads=2, dim=16, data=f"text:{folder / 'text.txt'}", tokenizer="byte", seq_len=32, steps=20,
            batch_size=4, eval_tokens=64, val_tokens=64, lengths=(32,), heatmaps=0, root=str(folder / "runs"),
        )
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, task in TASKS.items():
        (tmp_path / f"{name}.yaml").write_text(task.replace("FOLDER", str(tmp_path)))
    (tmp_path / "items.json").write_text(json.dumps(ITEMS))
    return tmp_path


@needed
@pytest.mark.slow
def test_a_local_task_comes_to_what_our_own_comes_to(trained: Result, folder: Path) -> None:
    """By the command, as users call it."""
    arguments = ["--model", "extrapo", "--model_args", f"run=last,root={trained.config.root}"]
    arguments += ["--tasks", "apples,texts,writes", "--include_path", str(folder), "--output_path", str(folder / "out")]
    own = {**os.environ, "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-m", "extrapo.harness", *arguments, "--log_samples"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stderr[-3000:]
    (report,) = (folder / "out").rglob("results_*.json")
    results = json.loads(report.read_text())["results"]

    run = load(trained.checkpoint)
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, ITEMS)))
    settings = ProbeSettings(items=str(folder / "items.jsonl"))
    tasks = PROBES.get("hellaswag").asked(run.tokenizer, settings)
    ours = run_probe(tasks, next_tokens(run.model), tasks[0].lengths([]), settings)
    by_score = {result.variant["score"]: result.accuracy for result in ours}
    assert results["apples"]["acc,none"] == by_score["acc"]
    assert results["apples"]["acc_norm,none"] == by_score["acc_norm"]

    bits, size = 0.0, 0
    for item in ITEMS:
        text = f"{item['activity_label']} {item['ctx_a']} {' '.join(item['endings'])}"
        ids = [run.tokenizer.separator, *run.tokenizer.encode(text)]
        size += len(text.encode())
        length = run.config.seq_len
        for start in range(0, len(ids) - 1, length):
            stop = min(start + length, len(ids) - 1)
            # The last window is as long as the others, and scores what they left.
            window = torch.tensor(ids[max(0, stop - length) : stop + 1])
            with torch.no_grad():
                nll = F.cross_entropy(run.model(window[None, :-1])[0], window[1:], reduction="none")
            bits += float(nll[-(stop - start) :].sum()) / torch.tensor(2.0).log().item()
    assert results["texts"]["bits_per_byte,none"] == pytest.approx(bits / size, rel=1e-4)

    (samples,) = (folder / "out").rglob("samples_writes_*.jsonl")
    written = [json.loads(line)["resps"][0][0] for line in samples.read_text().splitlines()]
    for item, text in zip(ITEMS, written, strict=True):
        ids = torch.tensor([run.tokenizer.encode(item["ctx_a"])])
        for _ in range(8):
            with torch.no_grad():
                ids = torch.cat([ids, run.model(ids)[:, -1:].argmax(-1)], dim=1)
        assert text == run.tokenizer.decode(ids[0, len(item["ctx_a"]) :].tolist()).split("e")[0]


@needed
@pytest.mark.slow
def test_likelihoods_are_those_of_the_model(trained: Result) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model

    import extrapo.harness

    assert get_model("extrapo") is extrapo.harness.Extrapo
    model = extrapo.harness.Extrapo(run=str(trained.checkpoint), device="cpu", length=20)
    pairs = [("3 squared is", " 9."), ("", "9 squared"), ("a" * 50, " b"), ("12 squared is ", "144.")]
    found = model.loglikelihood([Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)])
    gpt = load(trained.checkpoint).model
    # Spaces at the end of what is asked belong to the answer.
    pairs[3] = "12 squared is", " 144."
    for (context, answer), (likely, greedy) in zip(pairs, found, strict=True):
        ids = torch.tensor([*(context.encode() or [256]), *answer.encode()])[-21:]
        with torch.no_grad():
            follows = gpt(ids[None, :-1])[0, -len(answer) :].log_softmax(-1)
        assert likely == pytest.approx(float(follows.gather(1, ids[-len(answer) :, None]).sum()), abs=1e-4)
        assert greedy == bool((follows.argmax(-1) == ids[-len(answer) :]).all())
    with pytest.raises(UserError, match="`length` 20 is less than the 30 tokens of an answer"):
        model.loglikelihood([Instance("loglikelihood", {}, ("a", "b" * 30), 0)])


@pytest.mark.skipif(find_spec("lm_eval") is not None, reason="lm-eval is installed")
def test_without_the_harness_a_line_says_what_to_install() -> None:
    with pytest.raises(UserError, match='the harness needs lm-eval: pip install "extrapo'):
        import extrapo.harness  # noqa: F401
