"""A private wing: fast attention on a CPU. Without the folder and its lines in the list of back ends, all else works.

    row, fused, tiles            the three back ends
    compiled_attention           forward and backward of the second
    factors                      what a formula reads of a bias, and how gradients come back to it
    task                         ... as the compiled code reads it, with the places of tensors in memory
    attention.cpp, row.cpp       the compiled code: tiles, their products, and what is added up; one query
    source, operators            the bias's own formula as loops of C++: see attention/recorded
    fast_math.h                  their exponential and logarithm
    library                      C++ as machine code, kept on disk
    private                      all private API of PyTorch that the others use, and the versions it was tested with
    parallel, openmp, memory     threads, and what is left in memory from one attention to the next

Read them in this order, from the whole to its parts.
"""
