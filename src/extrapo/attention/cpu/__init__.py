"""A private wing: attention on a CPU, fast. Take the folder away and its lines from the list of back ends: all else works.

    fold, tiles                  the two back ends
    tiled_attention              forward and backward by tiles, shared out among threads
    tile_steps, softmax          how a tile is made: step by step
    compiled_tiles, toeplitz     ... by one compiled call each way; of a line of distances where the bias is Toeplitz
    codegen, rewrite_exp_log     the compiled tile, written as a function of tensors
    fast_math                    its logarithm and exponential
    compiler, compile_cache      functions of tensors -> machine code, kept on disk
    private                      all private API of PyTorch that the others use, and the versions it was tested with
    tiling, buffers              sizes of tiles; the memory in which they are made
    parallel, openmp             threads
"""
