"""A private wing: fused attention on a GPU. Without the folder and its lines in the list of back ends, all else works.

    fused                  the back end
    operator               forward and backward as an operator of PyTorch
    kernels                Triton's functions, and one attention run by them
    gradients              what the backward kernels write of trained factors, and what comes back to each tensor
    formulas               what they are generated from, by name
    forward                the source of the kernel of outputs
    by_queries, by_keys, by_distances      ... and of those that go backward, each by what it owns
    source                 what they have in common: factors, the formula, what is seen
    scores                 how they make scores of q and k: by products, or plane by plane
    turned                 functions of Triton for planes that turn by an angle of the distance
    planes                 what these read and write: tokens plane by plane, lines of cosines and sines
    clock                  contextual positions, as kernels of their own
    expressions            PyTorch's operations in Triton
    primitives             functions of Triton that the generated ones call
    tuning                 sizes of blocks
    path                   another back end: PaTH, by somebody else's kernels
    ahead                  the machine code of a kernel, for a card that need not be there

Read them in this order, from the whole to its parts. A bias's formula, and its derivative, come from
`attention/recorded`: nothing of any kernel is written here a second time.
"""
