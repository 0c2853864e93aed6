"""A folder that transformers opens says what our own model says, and writes what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
import torch

from extrapo import GPT, GPTConfig
from extrapo.cli import run as command
from extrapo.data.tokenizer import ByteTokenizer, Tokenizer
from extrapo.data.vocabularies import make_tokenizer
from extrapo.errors import UserError
from extrapo.files import write_text
from extrapo.run.generate import Sampling, generate_ids
from extrapo.run.load import LoadedRun

TEXT = "the number of squares: " + " ".join(f"{i} squared is {i * i}, and cubed {i**3}." for i in range(200))
TOKENIZERS: dict[str, Tokenizer] = {"byte": ByteTokenizer(), "bpe": make_tokenizer("bpe", 300, [TEXT])}

needed = pytest.mark.skipif(find_spec("transformers") is None, reason='needs pip install "extrapo[hf]"')

Made = Callable[..., LoadedRun]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A model that nobody trained, as if it were a run's."""

    def make(encoding: str, tokenizer: str = "byte", dtype: torch.dtype = torch.float32, **shape: object) -> LoadedRun:
        torch.manual_seed(0)
        size = TOKENIZERS[tokenizer].vocab_size
        config = GPTConfig(encoding=encoding, layers=2, heads=2, dim=32, vocab_size=size, train_length=64, **shape)
        model = GPT(config)
        with torch.no_grad():
            # Larger than at the start: what is likeliest is then clear.
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        write_text(tmp_path / "run/tokenizer.json", TOKENIZERS[tokenizer].to_json())
        run = LoadedRun(tmp_path / "run/last.ckpt")
        # There is no checkpoint to read it from.
        vars(run)["model"] = model.to(dtype).eval()
        return run

    return make


@needed
@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "shape"),
    [
        ("rope", {}),
        ("alibi", {"tied": False}),
        ("k-cable", {}),
        ("adaptive", {"kv_heads": 1}),
        ("path", {}),
        ("rope+window:1,nope:1", {"norm": "rmsnorm", "mlp": "swiglu", "bias": False}),
        # Tables that are computed when a model is built, and are not saved with it.
        ("bipe+rope", {"encoding_options": {"bipe": {"separators": [46]}}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_logits_and_text_are_those_of_our_model(made: Made, tmp_path: Path, encoding: str, shape: dict[str, object]):
    from transformers import AutoModelForCausalLM

    from extrapo.export import export

    run = made(encoding, **shape)
    folder = export(run, tmp_path / "folder")
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    tokens = torch.randint(0, 256, (3, 200), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = run.model(tokens)
        torch.testing.assert_close(model(tokens).logits, ours, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(tokens, use_cache=True).logits, ours, atol=1e-4, rtol=1e-4)
        loss = torch.nn.functional.cross_entropy(ours[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        assert float(model(tokens, labels=tokens).loss) == pytest.approx(float(loss), rel=1e-5)
    written = model.generate(tokens[:, :40], max_new_tokens=50, do_sample=False)
    assert written.shape == (3, 90)
    for row, prompt in zip(written, tokens[:, :40], strict=True):
        assert row[40:].tolist() == list(islice(generate_ids(run.model, prompt, Sampling(temperature=0)), 50))


@needed
@pytest.mark.slow
def test_the_precision_is_that_of_the_run(made: Made, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from extrapo.export import export

    run, tokens = made("k-cable", dtype=torch.bfloat16), torch.randint(0, 256, (2, 100))
    model = AutoModelForCausalLM.from_pretrained(export(run, str(tmp_path / "folder")))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, run.model(tokens), rtol=0, atol=0)


@needed
@pytest.mark.slow
def test_the_encoding_that_took_over_stays_in_force(made: Made, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from extrapo.export import export

    run = made("rope", swap_to="nope")
    tokens = torch.randint(0, 256, (1, 50))
    before = run.model(tokens)
    run.model.swap()
    model = AutoModelForCausalLM.from_pretrained(export(run, tmp_path / "folder"))
    torch.testing.assert_close(model(tokens).logits, run.model(tokens))
    assert not torch.allclose(model(tokens).logits, before)


@needed
@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_tokenizer_cuts_alike(made: Made, tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    from extrapo.export import export

    ours = TOKENIZERS[kind]
    theirs = AutoTokenizer.from_pretrained(export(made("rope", kind), tmp_path / "folder"))
    for text in (TEXT, " two  spaces\n\n\tand tabs ", "Ærø – 東京 \x00\x7f🙂", "don't  stop"):
        assert theirs(text)["input_ids"] == ours.encode(text)
        assert theirs.decode(theirs(text)["input_ids"]) == text
    assert theirs.eos_token_id == ours.separator
    assert len(theirs) == ours.vocab_size


@needed
@pytest.mark.slow
def test_the_folder_alone_is_enough(made: Made, tmp_path: Path) -> None:
    from extrapo.export import export

    run = made("k-cable")
    folder = export(run, tmp_path / "folder")
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; import torch;"
        f"assert 'extrapo' not in sys.modules; m = AutoModelForCausalLM.from_pretrained({str(folder)!r},"
        f"trust_remote_code=True); t = AutoTokenizer.from_pretrained({str(folder)!r});"
        "print(m(torch.tensor([t('one two')['input_ids']])).logits.double().sum().item())"
    )
    own = {**os.environ, "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stderr
    ours = run.model(torch.tensor([list(b"one two")])).double().sum().item()
    assert float(done.stdout) == pytest.approx(ours, rel=1e-5)


@needed
@pytest.mark.slow
def test_what_it_cannot_do_is_said(made: Made, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from extrapo.export import export

    run = made("rope")
    folder = export(run, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "run"]
    with pytest.raises(UserError, match="is there already; name another folder by `output`"):
        export(run, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.randint(0, 256, (2, 6))
    with pytest.raises(ValueError, match="no padding before a text"):
        model(tokens, attention_mask=torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6]))
    model(tokens, attention_mask=torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6]))
    with pytest.raises(NotImplementedError, match="beam search needs use_cache=False"):
        model.generate(tokens, num_beams=2, max_new_tokens=4)
    assert model.generate(tokens, num_beams=2, max_new_tokens=4, use_cache=False).shape == (2, 10)


@needed
@pytest.mark.slow
def test_on_the_command_line(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from extrapo.config import RunConfig
    from extrapo.run.fit import fit

    (tmp_path / "text.txt").write_text(TEXT)
    result = fit(
        RunConfig(
            layers=1, heads=2, dim=16, data=f"text:{tmp_path / 'text.txt'}", tokenizer="byte", seq_len=32, steps=2,
            batch_size=2, eval_tokens=64, val_tokens=64, lengths=(32,), heatmaps=0, root=str(tmp_path / "runs"),
        )
    )  # fmt: skip
    capsys.readouterr()
    assert command(["export", "last", "--root", str(tmp_path / "runs"), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    assert folder == result.checkpoint.parent / "export"
    assert (folder / "model.safetensors").is_file()
    assert command(["export", "last", "--root", str(tmp_path / "runs")]) == 2
    assert "is there already; name another folder by --output" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("transformers") is not None, reason="transformers is installed")
def test_without_transformers_a_line_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["export", "last"]) == 2
    assert capsys.readouterr().err == 'extrapo: error: export needs transformers: pip install "extrapo[hf]"\n'
