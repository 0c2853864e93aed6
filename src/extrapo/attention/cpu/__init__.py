"""A private wing: fast attention on a CPU. Without the folder and its lines in the list of back ends, all else works.

    fold, tiles                  the two back ends that compute
    fastest                      the one that takes the fastest of them, and of the portable fold, on this machine
    measuring, measured          how long each takes, and the file in which that is kept
    tiled_attention              forward and backward by tiles, shared out among threads
    tile_steps, softmax          how a tile is made: step by step
    compiled_tiles, toeplitz     ... or by one compiled call each way, from a line of distances where the bias is one
    codegen, rewrite_exp_log     a compiled tile, written as a function of tensors
    fast_math                    its logarithm and exponential
    compiler, compile_cache      functions of tensors as machine code, kept on disk
    private                      all private API of PyTorch that the others use, and the versions it was tested with
    tiling, buffers              sizes of tiles, and the memory in which they are made
    parallel, openmp             threads

Read them in this order, from the whole to its parts.
"""
