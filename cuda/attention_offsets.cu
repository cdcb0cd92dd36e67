/* Where each sequence of a packed stream lies, as cuDNN wants to be told: lengths, and first elements of every operand. */
#include "attention.h"
#include "numbers.cuh"

const int OFFSET_THREADS = 256;

/* The row starts are not what the slot was promised. The same answer in every thread; each block reads all of them. */
static __device__ bool are_broken(const offset_table &table) {
    bool broken = table.starts[0] != 0 || table.starts[table.sequences] != table.tokens;
    for (int64_t i = threadIdx.x; i < table.sequences; i += blockDim.x) {
        int64_t length = (int64_t)table.starts[i + 1] - table.starts[i];
        broken = broken || length < 0 || length > table.longest;
    }
    return __syncthreads_or(broken);
}

/* All bits set are a NaN in BF16 and in F32. */
static __device__ void fill_nan(const offset_output &output, int64_t rows) {
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < rows * output.cols; i += step)
        output.data[i / output.cols * output.ld + i % output.cols] = 0xFFFFu;
}

/*
 * Sequences beyond those that there are get length 0 at the end of the stream. Where the starts are broken all
 * sequences do, so that cuDNN accesses nothing, and the results are NaN.
 */
static __global__ void write_offsets(offset_table table) {
    bool broken = are_broken(table);
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= table.padded) {
        bool exists = !broken && i < table.sequences;
        int64_t start = broken ? 0 : table.starts[exists ? i : table.sequences];
        for (int operand = 0; operand < table.operands; operand++)
            table.offsets[operand * (table.padded + 1) + i] = start * table.strides[operand];
        if (i < table.padded)
            table.lengths[i] = exists ? table.starts[i + 1] - table.starts[i] : 0;
    }
    if (broken)
        for (int output = 0; output < table.outputs; output++)
            fill_nan(table.output[output], table.tokens);
}

balora_status attention_offsets(backend_queue *queue, const offset_table *table) {
    return launch(queue, "attention offsets", write_offsets, blocks_for(table->padded + 1, OFFSET_THREADS),
                  OFFSET_THREADS, 0, *table);
}
