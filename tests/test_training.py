"""The LightningModule: schedule, weight decay, loss, and checkpoints that load without running code."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import lightning as L
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils.data import DataLoader

from extrapo import GPT, GPTConfig, encodings
from extrapo.errors import UserError
from extrapo.training import LanguageModel, learning_rate, load_checkpoint, parameter_groups

SHAPE: dict[str, Any] = {"vocab_size": 31, "layers": 2, "heads": 2, "dim": 16, "train_length": 12}
SETTINGS: dict[str, Any] = {
    "model": SHAPE,
    "lr": 1e-3,
    "warmup": 2,
    "steps": 9,
    "weight_decay": 0.1,
    "compile": False,
}


def module(**changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(**{**SETTINGS, "model": {**SHAPE, **changes}}).eval()


# -- schedule --


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.2),  # the first step already moves
        (4, 1.0),
        (9, 2.0),  # warmup ends at the peak
        (10, 2.0),
        (35, 0.2 + 1.8 * 0.5 * (1 + math.cos(math.pi / 4))),
        (60, 1.1),  # half way between peak and floor
        (110, 0.2),
        (500, 0.2),
    ],
)
def test_rate_by_hand(step: int, rate: float) -> None:
    assert learning_rate(step, peak=2.0, warmup=10, steps=110) == pytest.approx(rate)


@given(warmup=st.integers(0, 50), steps=st.integers(1, 200), step=st.integers(0, 400))
def test_rate_is_bounded_rises_and_then_falls(warmup: int, steps: int, step: int) -> None:
    now, then = (learning_rate(s, peak=1.0, warmup=warmup, steps=steps) for s in (step, step + 1))
    assert 0 < now <= 1
    assert then >= now if step + 1 < warmup else then <= now + 1e-12 or step < warmup
    assert step < warmup or now >= 0.1 - 1e-12


def test_the_optimiser_follows_the_schedule() -> None:
    made = module().configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    for step in range(9):
        expected = learning_rate(step, peak=1e-3, warmup=2, steps=9)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected] * 2)
        optimizer.step()
        scheduler.step()


# -- weight decay --


@pytest.mark.parametrize("encoding", [*encodings.names(), "rope+k-cable"])
def test_every_trained_parameter_is_in_one_group(encoding: str) -> None:
    model = GPT(GPTConfig(**{**SHAPE, "encoding": encoding}))
    model.norm.requires_grad_(False)
    decayed, kept = parameter_groups(model, 0.3)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    grouped = [id(p) for p in (*decayed["params"], *kept["params"])]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if ".encodings." not in name:
            expected = not (name.endswith("bias") or "norm" in name)
        else:
            # What multiplies an input; slopes, scales, gains and tables of a bias are not drawn to 0.
            expected = name.endswith("weight") and parameter.dim() > 1
        assert (id(parameter) in {id(p) for p in decayed["params"]}) is expected, name


# -- loss --


def test_losses_are_those_of_the_logits() -> None:
    made = module()
    tokens = torch.randint(0, 31, (2, 9))
    logits = made(tokens[:, :-1]).log_softmax(-1)
    expected = -logits.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(made.token_nll(tokens[:, :-1], tokens[:, 1:]), expected)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    torch.testing.assert_close(made.training_step(tokens, 0), expected.mean())
    made.validation_step(tokens, 0)
    mean, count = made.validation.compute()
    assert float(mean) == pytest.approx(float(expected.detach().mean()), rel=1e-6)
    assert int(count) == 16


# -- checkpoints --


def written(path: Path, made: LanguageModel, **changes: Any) -> Path:
    torch.save({"hyper_parameters": SETTINGS, "state_dict": made.state_dict()} | changes, path)
    return path


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    made = module()
    tokens = torch.randint(0, 31, (1, 40))
    back = load_checkpoint(written(tmp_path / "a.ckpt", made))
    assert not back.training
    assert torch.equal(back(tokens), made(tokens))
    assert load_checkpoint(tmp_path / "a.ckpt", impl="reference").gpt.choices(tokens)[0].impl == "reference"


def test_a_flipped_bit_anywhere_is_told_or_changes_nothing(tmp_path: Path) -> None:
    """PyTorch itself reads a spoilt weight without a word."""
    path = written(tmp_path / "a.ckpt", module())
    good, expected = path.read_bytes(), load_checkpoint(path).state_dict()
    told = 0
    for place in random.Random(0).sample(range(8 * len(good)), 60):
        spoilt = bytearray(good)
        spoilt[place // 8] ^= 1 << place % 8
        path.write_bytes(spoilt)
        try:
            found = load_checkpoint(path).state_dict()
        except UserError:
            told += 1
        else:
            # A name, a date or a gap of the archive.
            assert all(torch.equal(found[name], weight) for name, weight in expected.items()), place
    assert told > 20
    start = good.index(expected["gpt.embedding.weight"].numpy().tobytes())
    path.write_bytes(good[: start + 2] + bytes([good[start + 2] ^ 4]) + good[start + 3 :])
    with pytest.raises(UserError, match=r"is damaged: the checksum of .* differs"):
        load_checkpoint(path)


WEIGHTS: list[tuple[Callable[[torch.Tensor], Any], str]] = [
    (lambda weight: weight.to(torch.complex64), "is complex64, not float32"),
    (lambda weight: (99 * weight).to(torch.int32), "is int32, not float32"),
    (lambda weight: weight > 0, "is bool, not float32"),
    (lambda weight: weight.to(torch.float8_e4m3fn), "is float8_e4m3fn, not float32"),
    (lambda weight: weight.half(), "is float16, not float32"),
    (lambda weight: weight.to_sparse(), "is no dense tensor"),
    (lambda weight: weight.tolist(), "is no dense tensor"),
    (lambda weight: weight[:1], "size mismatch"),
]


@pytest.mark.parametrize(("change", "says"), WEIGHTS)
def test_weights_of_another_kind_are_not_cast(tmp_path: Path, change: Callable[[torch.Tensor], Any], says: str) -> None:
    made = module()
    state = made.state_dict()
    name = "gpt.blocks.0.attention.out.weight"
    path = written(tmp_path / "a.ckpt", made, state_dict=state | {name: change(state[name])})
    with pytest.raises(UserError, match=says) as refused:
        load_checkpoint(path)
    assert name in str(refused.value)


@pytest.mark.parametrize("kind", [torch.complex64, torch.int64, torch.float8_e5m2])
def test_weights_that_are_all_of_another_kind(tmp_path: Path, kind: torch.dtype) -> None:
    made = module()
    path = written(tmp_path / "a.ckpt", made, state_dict={k: v.to(kind) for k, v in made.state_dict().items()})
    with pytest.raises(UserError, match="not real numbers of 16 bits or more"):
        load_checkpoint(path)


def test_weights_that_repeat_what_little_is_stored(tmp_path: Path) -> None:
    """A few bytes can have the shape of any model, which is not to be made for them."""
    made = module()
    one = torch.zeros(1)
    path = written(tmp_path / "a.ckpt", made, state_dict={k: one.expand(v.shape) for k, v in made.state_dict().items()})
    with pytest.raises(UserError, match="it holds 4 weights, and its model has at least"):
        load_checkpoint(path)


def test_a_checkpoint_that_swells_when_it_is_read(tmp_path: Path) -> None:
    good, bomb = written(tmp_path / "a.ckpt", module()), tmp_path / "b.ckpt"
    with ZipFile(good) as whole, ZipFile(bomb, "w", ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
        packed.writestr("a/data/99", bytes(1 << 24))
    with pytest.raises(UserError, match="is compressed"):
        load_checkpoint(bomb)


NUMBERS = st.integers(-(2**70), 2**70) | st.integers(0, 9999) | st.floats()
VALUES = NUMBERS | st.none() | st.booleans() | st.text(max_size=5) | st.just({"a": [1]})


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_checkpoint_that_says_anything_of_its_model(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Loaded, or one line; and no thousand layers for a model that the weights cannot be of."""
    path = tmp_path_factory.mktemp("fuzzed") / "a.ckpt"
    made = torch.load(written(path, module()), weights_only=True)
    outer = made["hyper_parameters"]
    holder = data.draw(st.sampled_from([outer["model"], outer["model"], outer, made]))
    key = data.draw(st.sampled_from(sorted(holder)))
    if data.draw(st.booleans()):
        holder[key] = data.draw(VALUES)
    else:
        del holder[key]
    torch.save(made, path)
    with suppress(UserError):
        load_checkpoint(path)


def test_moments_stay_with_their_weights_where_others_never_had_any() -> None:
    """An optimiser that once held two idle weights more, in the middle of each group, goes on as one without them."""
    made = module(encoding="tape:1,nope:1")
    idle = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2, 2))]
    groups = parameter_groups(made.gpt, 0.1)
    longer = [
        {**group, "params": [*group["params"][:2], one, *group["params"][2:]]}
        for group, one in zip(groups, idle, strict=True)
    ]
    made(torch.arange(12).view(1, 12)).logsumexp(-1).square().mean().backward()
    states = []
    for some in (groups, longer):
        optimizer = torch.optim.AdamW(some, lr=0.0)
        optimizer.step()
        states.append(optimizer.state_dict())
    expected, old = states
    for state in (old, expected):
        checkpoint = {"optimizer_states": [state]}
        made.on_load_checkpoint(checkpoint)
        (got,) = checkpoint["optimizer_states"]
        assert [group["params"] for group in got["param_groups"]] == [g["params"] for g in expected["param_groups"]]
        assert got["state"].keys() == expected["state"].keys()
        for number, moments in got["state"].items():
            torch.testing.assert_close(moments, expected["state"][number], rtol=0, atol=0)
    torch.optim.AdamW(groups).load_state_dict(got)
    strange = {"optimizer_states": [{"state": {}, "param_groups": old["param_groups"]}]}
    made.on_load_checkpoint(strange)
    assert strange["optimizer_states"][0]["param_groups"] == old["param_groups"], (
        "what does not fit is for torch to tell"
    )


def test_what_was_compiled_is_loaded_plain(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt", module(), hyper_parameters=SETTINGS | {"compile": True})
    assert load_checkpoint(path).hparams["compile"] is False


class Malice:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_checkpoint_that_carries_code_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    path = written(tmp_path / "a.ckpt", module(), extra=Malice(target))
    with pytest.raises(UserError, match="is not a checkpoint of extrapo") as refused:
        load_checkpoint(path)
    assert not target.exists()
    assert "\n" not in str(refused.value)
    torch.load(path, weights_only=False)
    assert target.exists(), "the file was harmless: this test proves nothing"


@pytest.mark.parametrize("content", [b"not a checkpoint", b"PK\x03\x04 broken"])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a checkpoint of extrapo"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a checkpoint of this extrapo"):
        load_checkpoint(written(tmp_path / "a.ckpt", module(dim=32)))


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [({"impl": "nope"}, UserError, "^unknown impl 'nope'"), ({"skip": 2.0}, ValidationError, "skip")],
)
def test_a_mistake_in_what_is_asked_for_does_not_accuse_the_file(
    tmp_path: Path, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = written(tmp_path / "a.ckpt", module())
    for there in (path, tmp_path / "missing.ckpt"):
        with pytest.raises(error, match=message) as refused:
            load_checkpoint(there, **asked)
        assert str(there) not in str(refused.value)


def test_a_checkpoint_whose_encoding_is_not_installed(tmp_path: Path) -> None:
    settings = {**SETTINGS, "model": {**SETTINGS["model"], "encoding": "half-alibi"}}
    path = written(tmp_path / "a.ckpt", module(), hyper_parameters=settings)
    with pytest.raises(UserError, match=r"cannot load '.*a.ckpt': unknown encoding 'half-alibi'"):
        load_checkpoint(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "missing.ckpt")


def swapping(**changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    shape = GPTConfig(vocab_size=31, layers=2, heads=2, dim=16, encoding="rope", swap_to="cable", train_length=16)
    rates = {"lr": 1e-2, "warmup": 2, "swap_lr": 1e-2, "swap_warmup": 2}
    return LanguageModel(shape.model_dump(), **{**rates, "steps": 20, "swap_step": 10, **changes})


def test_before_and_after_the_swap_the_model_is_one_and_then_the_other_encoding() -> None:
    model = swapping().gpt
    tokens = torch.arange(12).unsqueeze(0)
    for encoding, phase in (("rope", 0), ("cable", 1)):
        config = model.config.model_copy(update={"encoding": encoding, "swap_to": None})
        alone = GPT(config)
        weights = {name.replace(f"encodings.{phase}.", "encodings.0."): w for name, w in model.state_dict().items()}
        alone.load_state_dict({name: weights[name] for name in alone.state_dict()})
        assert torch.equal(model(tokens), alone(tokens))
        if phase == 0:
            model.swap()
    again = swapping().gpt
    again.load_state_dict(model.state_dict())
    assert again.phase == 1
    assert torch.equal(again(tokens), model(tokens))


def test_the_rate_starts_again_at_the_swap() -> None:
    rates = [swapping(swap_lr=5e-3).rate(step) for step in range(20)]
    first = [learning_rate(step, peak=1.0, warmup=2, steps=10) for step in range(10)]
    second = [learning_rate(step, peak=0.5, warmup=2, steps=10) for step in range(10)]
    assert rates == first + second


def test_a_schedule_of_its_own_after_the_swap() -> None:
    rates = [swapping(swap_lr=1e-2, swap_warmup=4, swap_schedule="constant").rate(step) for step in range(10, 20)]
    assert rates == [0.25, 0.5, 0.75, *[1.0] * 7]


def four_steps(callback: L.Callback) -> L.Trainer:
    return L.Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )


@pytest.mark.parametrize(("optimizer", "steps"), [("same", [1, 2, 3, 4]), ("fresh", [1, 2, 1, 2])])
def test_the_optimizer_at_the_swap(optimizer: str, steps: list[int]) -> None:
    module = swapping(steps=4, swap_step=2, swap_optimizer=optimizer)
    counts = []

    class Counts(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            state = trainer.optimizers[0].state[module.gpt.embedding.weight]
            counts.append(int(state["step"]))

    batches = [torch.randint(0, 31, (2, 9), generator=torch.Generator().manual_seed(i)) for i in range(4)]
    trainer = four_steps(Counts())
    trainer.fit(module, DataLoader(batches, batch_size=None))
    assert counts == steps


def test_the_swap_comes_at_its_step() -> None:
    module = swapping(steps=4, swap_step=2)
    phases = []
    batches = [torch.randint(0, 31, (2, 9), generator=torch.Generator().manual_seed(i)) for i in range(4)]

    class AtTheSwap(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            phases.append(module.gpt.phase)

    trainer = four_steps(AtTheSwap())
    idle = module.gpt.blocks[0].attention.encodings[1].contextual.projection.weight.detach().clone()  # type: ignore[index]
    trainer.fit(module, DataLoader(batches, batch_size=None))
    assert phases == [0, 0, 1, 1]
    assert not torch.equal(module.gpt.blocks[0].attention.encodings[1].contextual.projection.weight, idle)  # type: ignore[index]
