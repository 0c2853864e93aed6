"""Encoding: one layer's positional encoding. Optional steps, each a no-op unless the scheme has it.

    source     once, at the bottom of the model      where tokens stand: sampled, segmented
    embedding  once, at the bottom of the model      sinusoidal, learned
    transform  q, k (and v, and the output)          rotations
    bias       from the layer's input                ALiBi, Cable, ...
               (one whose `score` owns the logits)   CoPE, PaTH, Adaptive Positional Encoding
    around     another scheme's bias                 windows, DAPE, stick-breaking
    hand_on    to the next layer, after the MLP      TAPE

To bring your own, subclass Encoding in a file of your own and decorate it with `@extrapo.encodings.register("name")`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from extrapo.encodings.core.bias import Bias, NoBias
from extrapo.encodings.core.context import Context, Site
from extrapo.registry import Registry

encodings: Registry[Encoding] = Registry("encoding", "extrapo.encodings")

Certainty = Literal["certain", "reconstruction"]


@dataclass(frozen=True)
class Paper:
    """What the catalogue says of an encoding.

    Args:
        source: the paper, with its arXiv number.
        positions: `index` or `contextual`, or `-`.
        transform: the change of q and k, or `-`.
        kernel: the default kernel's name, or `-`.
        summary: one line; says "reconstruction" where the paper's own text was not the source.
        year: of the first version.
        contextual: whether what is added or turned depends on the tokens; None is where the positions do.
        state: what decoding keeps per token besides k and v, or `-`.
        certainty: `certain` where the paper or its authors' code was read, or `reconstruction`.
    """

    source: str
    positions: str = "-"
    transform: str = "-"
    kernel: str = "-"
    summary: str = ""
    year: int | None = None
    contextual: bool | None = None
    state: str = "-"
    certainty: Certainty = "certain"


class Transformed(NamedTuple):
    """What `transform` gives back."""

    q: Tensor  # (B, H, T, d')
    k: Tensor  # (B, H, T, d')
    v: Tensor  # (B, H, T, e)
    carry: Any  # what the next step of decoding needs: tensors, or nothing
    output: Callable[[Tensor], Tensor] | None = None  # (B, H, T, e) -> (B, H, T, d), on the attention's output


class Encoding(nn.Module):
    """The positional encoding of one attention layer; this class itself is the one that does nothing.

    Args:
        heads: number of heads H.
        head_dim: width of a head d.
        dim: model width D = H d.
    """

    paper: ClassVar[Paper] = Paper("-")
    #: the kernels it can be given; none unless the scheme has a distance to apply one to.
    takes_kernel: ClassVar[bool] = False
    #: whether its bias owns the logits (`Bias.additive` is False).
    owns: ClassVar[bool] = False
    #: whether it acts `around` the bias of others.
    wraps: ClassVar[bool] = False
    #: whether it makes its bias of single components of q or k, so that another scheme's turn of them shows in it.
    reads_content: ClassVar[bool] = False
    #: whether decoding rewrites the keys that are kept.
    rewrites_keys: ClassVar[bool] = False
    #: whether it makes q and k wider than a head.
    widens: ClassVar[bool] = False
    #: whether it acts on the products q.k, whatever the width, after all that turn q and k.
    acts_on_products: ClassVar[bool] = False
    #: whether all layers use one module, unless the configuration says otherwise.
    shared: ClassVar[bool] = False
    #: whether the logits stay the same when all tokens stand later in a text by the same number of places.
    translation_invariant: ClassVar[bool] = True
    #: clauses of extrapo.testing.EncodingContract that it cannot satisfy: clause -> why.
    exempt: ClassVar[dict[str, str]] = {}

    def __init__(self, heads: int, head_dim: int, dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim
        self.dim = dim
        self.site = Site()

    def settle(self, site: Site) -> None:
        """Learn where in the model this layer stands; schemes with a table per token or per length build it here."""
        self.site = site

    @classmethod
    def source(cls, site: Site, **options: Any) -> nn.Module | None:
        """A module that says where tokens stand, (tokens, start, carry) -> Places; None for 0, 1, 2, ...

        One per model, asked once per pass. `tokens` is (B, T), `start` the number of tokens before them, `carry` what
        it returned at the step before while decoding.
        """
        return None

    @classmethod
    def embedding(cls, dim: int, site: Site, **options: Any) -> nn.Module | None:
        """A module that maps token embeddings (B, T, D) and their Context to embeddings with positions.

        One per model, applied once at the bottom; None for schemes that act in the layers.
        """
        return None

    def transform(self, q: Tensor, k: Tensor, v: Tensor, *, x: Tensor, context: Context, carry: Any) -> Transformed:
        """Change the queries, keys and values of the tokens of one pass.

        Args:
            q, k, v: (B, H, T, d) projections of `x`.
            x: (B, T, D) the layer's input, after its norm.
            context: where the tokens stand.
            carry: what the previous call returned while decoding, None at the start.
        """
        return Transformed(q, k, v, carry)

    def bias(self, x: Tensor, past: Bias | None = None, context: Context | None = None) -> Bias:
        """The bias of the tokens of `x` as queries over all tokens so far as keys.

        Args:
            x: (B, T, D) the layer's input, after its norm.
            past: while decoding, the bias of the tokens before `x`, which holds their positions.
            context: where the tokens stand; None is right after those of `past`.
        """
        before = 0 if past is None else past.shape[-1]
        none = NoBias(self.heads, x.size(1), before + x.size(1), x.device)
        return self.around(none, x, context) if self.wraps else none

    def exemptions(self) -> dict[str, str]:
        """The clauses of the contract that it cannot satisfy as it was built: clause -> why."""
        return self.exempt

    def around(self, bias: Bias, x: Tensor, context: Context | None) -> Bias:
        """What this scheme makes of the bias of the others in a composition (or of none)."""
        return bias

    def hand_on(self, update: Tensor, context: Context) -> None:
        """Leave something for the next layer in `context.shared`, given the MLP's output (B, T, D)."""

    def extra_repr(self) -> str:
        return f"heads={self.heads}"
