"""A bias's own formula, and its derivative, as operations that a wing makes code of: C++ for a CPU, Triton for a GPU.

formula            what is recorded of a logit
rewrite_exp_log    ... and what becomes of a logarithm under an exponential
statements         the operations, as statements of another language about the numbers of one pair
kinds              what a factor of it has numbers for
watched            rows whose weights a bias is to see, for kernels that have none
private            all private API of PyTorch that recording takes
"""
