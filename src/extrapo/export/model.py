"""A GPT as transformers calls it: any length, and decoding with the state of every layer as its cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from extrapo.config import GPTConfig
from extrapo.gpt import GPT, State

#: Tokens of a prompt that are read at a time while decoding, as in `extrapo generate`.
CHUNK = 512


class ExtrapoConfig(PreTrainedConfig):
    """The shape of a model.

    Args:
        gpt: the fields of `GPTConfig`.
        others: transformers' own.
    """

    model_type = "extrapo"
    attribute_map: ClassVar[dict[str, str]] = {}

    def __init__(self, gpt: dict[str, Any] | None = None, **others: Any) -> None:
        self.gpt = gpt or {}
        shape = GPTConfig(**self.gpt)
        # The names by which transformers' tools ask. A text may be longer than those of training.
        self.vocab_size, self.hidden_size = shape.vocab_size, shape.dim
        self.num_hidden_layers, self.num_attention_heads = shape.layers, shape.heads
        self.max_position_embeddings = shape.train_length
        super().__init__(**{**others, "tie_word_embeddings": shape.tied})


class StateCache:
    """What has been read, for the next token.

    Args:
        state: of the decoding model.
    """

    #: What transformers asks of a cache.
    is_compileable = False
    is_linear = (False,)

    def __init__(self, state: State) -> None:
        self.state = state

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens read."""
        return self.state.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beams change their places; what encodings keep does not."""
        raise NotImplementedError("beam search needs use_cache=False with a model of extrapo")


@dataclass
class CausalOutput(ModelOutput):
    """Logits (B, N, V), the loss where labels are given, and the cache where it is used."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    cache: StateCache | None = None


class ExtrapoForCausalLM(PreTrainedModel, GenerationMixin):
    """A trained GPT of extrapo.

    Args:
        config: its shape.
    """

    config_class = ExtrapoConfig
    base_model_prefix = "gpt"
    main_input_name = "input_ids"
    _tied_weights_keys: ClassVar[dict[str, str]] = {"gpt.unembedding.weight": "gpt.embedding.weight"}

    def __init__(self, config: ExtrapoConfig) -> None:
        super().__init__(config)
        # transformers builds models without storage; an encoding computes its tables when it is built.
        with torch.device("cpu"):
            self.gpt = GPT(GPTConfig(**config.gpt))
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As transformers has it; what is no weight is then as it was built."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.restore()
        return loaded

    def restore(self) -> None:
        """Tables that are not saved, and which encoding is in force."""
        with torch.no_grad():
            built = dict(GPT(self.gpt.config).named_buffers())
            saved = self.gpt.state_dict()
            for name, buffer in self.gpt.named_buffers():
                if name not in saved:
                    buffer.copy_(built[name])
            self.gpt.load_state_dict(saved)

    def _init_weights(self, module: Any) -> None:
        """A GPT initialises itself."""

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def get_input_embeddings(self) -> Any:
        """The embedding of tokens."""
        return self.gpt.embedding

    def get_output_embeddings(self) -> Any:
        """The output layer."""
        return self.gpt.unembedding

    def forward(
        self,
        input_ids: Tensor,
        cache: StateCache | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        return_dict: bool = True,
        **others: Any,
    ) -> Any:
        """Logits of what follows each token.

        Args:
            input_ids: (B, N) token ids, after those that the cache has read.
            cache: of an earlier call.
            attention_mask: (B, N) or (B, all tokens): 0 is padding, which may only stand at the end.
            labels: (B, N) the tokens themselves; -100 is not scored.
            use_cache: return a cache, for the next tokens.
            logits_to_keep: only those of the last tokens; 0 is all.

        Raises:
            ValueError: padding before a text.
        """
        if attention_mask is not None and bool((attention_mask.diff(dim=-1) > 0).any()):
            raise ValueError("a model of extrapo reads no padding before a text: texts of one length, or one by one")
        if cache is None and not use_cache:
            hidden = self.gpt.hidden(input_ids)
            logits, after = self.gpt.unembedding(hidden[:, -logits_to_keep:]), None
        else:
            logits, state = _read(self.gpt, input_ids, cache, logits_to_keep)
            after = StateCache(state)
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        output = CausalOutput(loss, logits, after)
        return output if return_dict else output.to_tuple()


def _read(gpt: GPT, tokens: Tensor, cache: StateCache | None, keep: int) -> tuple[Tensor, State]:
    """Some tokens at a time: the last logits, and the state after them."""
    state = gpt.start(len(tokens)) if cache is None else cache.state
    kept: list[Tensor] = []
    for part in torch.split(tokens, CHUNK, dim=1):
        logits, state = gpt.step(part, state)
        kept = [torch.cat([*kept, logits], dim=1)[:, -keep:]] if keep else [*kept, logits]
    return torch.cat(kept, dim=1), state


AutoConfig.register(ExtrapoConfig.model_type, ExtrapoConfig)
AutoModelForCausalLM.register(ExtrapoConfig, ExtrapoForCausalLM)
