/* The emulation of CUDA itself: threads, barriers, warps, memory and graphs behave as the programming guide says, and
 * what a device would not forgive is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <vector>

#include "numbers.cuh"
#include "reduce.cuh"

static cudaStream_t stream;

static int open_stream(void **) {
    return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess ? 0 : -1;
}

static int close_stream(void **) {
    return cudaStreamDestroy(stream) == cudaSuccess ? 0 : -1;
}

template <typename... Parameters, typename... Arguments>
static cudaError_t run(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared,
                       Arguments... arguments) {
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks;
    config.blockDim = threads;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

/* --- places --- */

static __global__ void write_places(unsigned *out) {
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

static void every_thread_of_every_block_runs_once(void **) {
    std::vector<unsigned> out(6 * 24, 999999);
    assert_int_equal(run(write_places, dim3(2, 3, 1), dim3(4, 3, 2), 0, out.data()), cudaSuccess);
    for (unsigned i = 0; i < out.size(); i++)
        assert_int_equal(out[i], i / 24 * 1000 + i % 24);
}

static void too_large_blocks_are_refused(void **) {
    std::vector<unsigned> out(1);
    assert_int_equal(run(write_places, dim3(1), dim3(1025), 0, out.data()), cudaErrorInvalidValue);
    assert_int_equal(run(write_places, dim3(1, 70000), dim3(1), 0, out.data()), cudaErrorInvalidValue);
    assert_int_equal(run(write_places, dim3(1), dim3(1), 228 * 1024, out.data()), cudaErrorInvalidValue);
}

/* --- shared memory and barriers --- */

/* Each thread passes its number round the block, `rounds` times. */
static __global__ void pass_round(int *out, int rounds) {
    DYNAMIC_SHARED(memory);
    int *slots = reinterpret_cast<int *>(memory), threads = (int)blockDim.x, here = (int)threadIdx.x;
    slots[here] = here;
    for (int i = 0; i < rounds; i++) {
        __syncthreads();
        int next = slots[(here + 1) % threads];
        __syncthreads();
        slots[here] = next;
    }
    out[blockIdx.x * blockDim.x + threadIdx.x] = slots[here];
}

static void barriers_order_shared_memory(void **) {
    std::vector<int> out(5 * 96);
    assert_int_equal(run(pass_round, dim3(5), dim3(96), 96 * sizeof(int), out.data(), 7), cudaSuccess);
    for (int i = 0; i < (int)out.size(); i++)
        assert_int_equal(out[(size_t)i], (i % 96 + 7) % 96);
}

static __global__ void read_first(float *out) {
    DYNAMIC_SHARED(memory);
    out[threadIdx.x] = reinterpret_cast<float *>(memory)[threadIdx.x];
}

static void shared_memory_that_nobody_wrote_is_not_a_number(void **) {
    std::vector<float> out(32, 0.0f);
    assert_int_equal(run(read_first, dim3(1), dim3(32), 128, out.data()), cudaSuccess);
    for (float value : out)
        assert_true(std::isnan(value));
}

static __global__ void half_waits() {
    if (threadIdx.x < 16)
        __syncthreads();
}

static __global__ void lane_stays_away(int *out) {
    if (threadIdx.x != 5)
        out[threadIdx.x] = __shfl_sync(ALL_LANES, (int)threadIdx.x, 0);
}

static void a_barrier_that_not_all_reach_fails_the_launch(void **) {
    std::vector<int> out(32);
    assert_int_equal(run(half_waits, dim3(3), dim3(64), 0), cudaErrorLaunchFailure);
    assert_int_equal(run(lane_stays_away, dim3(1), dim3(32), 0, out.data()), cudaErrorLaunchFailure);
    assert_int_equal(run(pass_round, dim3(1), dim3(32), 128, out.data(), 1),
                     cudaSuccess); /* and goes on after it */
}

static __global__ void count_even(int *out) {
    out[threadIdx.x] = __syncthreads_count(threadIdx.x % 2 == 0) * 10 +
                       __syncthreads_or(threadIdx.x == 3) * 2 + __syncthreads_and(threadIdx.x < 3);
}

static void barriers_count(void **) {
    std::vector<int> out(50);
    assert_int_equal(run(count_even, dim3(1), dim3(50), 0, out.data()), cudaSuccess);
    for (int value : out)
        assert_int_equal(value, 252);
}

/* --- warps --- */

static __global__ void shuffle_all(int *out) {
    int lane = (int)threadIdx.x % 32, *own = out + threadIdx.x * 6;
    own[0] = __shfl_sync(ALL_LANES, lane * 3, 7);
    own[1] = __shfl_xor_sync(ALL_LANES, lane, 5);
    own[2] = __shfl_down_sync(ALL_LANES, lane, 4);
    own[3] = __shfl_up_sync(ALL_LANES, lane, 4);
    own[4] = (int)__ballot_sync(ALL_LANES, lane % 3 == 0);
    own[5] = __any_sync(ALL_LANES, lane == 31) * 2 + __all_sync(ALL_LANES, lane < 31);
}

static void shuffles_move_between_lanes(void **) {
    std::vector<int> out(64 * 6);
    assert_int_equal(run(shuffle_all, dim3(1), dim3(64), 0, out.data()), cudaSuccess);
    for (int thread = 0; thread < 64; thread++) {
        const int *own = &out[(size_t)thread * 6], lane = thread % 32;
        assert_int_equal(own[0], 21);
        assert_int_equal(own[1], lane ^ 5);
        assert_int_equal(own[2], lane + 4 < 32 ? lane + 4 : lane);
        assert_int_equal(own[3], lane >= 4 ? lane - 4 : lane);
        assert_int_equal((unsigned)own[4], 0x49249249u);
        assert_int_equal(own[5], 2);
    }
}

static __global__ void reduce_all(const double *in, double *out) {
    __shared__ double pieces[32];
    double sum = block_reduce<sum_of>(in[threadIdx.x], pieces);
    double most = block_reduce<max_of>(in[threadIdx.x], pieces);
    out[2 * threadIdx.x] = sum;
    out[2 * threadIdx.x + 1] = most;
}

static void blocks_reduce(void **) {
    std::vector<double> in(256), out(512);
    double sum = 0;
    for (size_t i = 0; i < in.size(); i++)
        sum += in[i] = (double)(i * 37 % 101) - 50;
    assert_int_equal(run(reduce_all, dim3(1), dim3(256), 0, in.data(), out.data()), cudaSuccess);
    for (size_t i = 0; i < 256; i++)
        assert_true(out[2 * i] == sum && out[2 * i + 1] == 50);
}

/* --- 16-bit numbers --- */

/* Every 16-bit pattern comes back from its float, and a float between two of them goes to the nearer, ties to even. */
static void conversions_round_to_nearest_even(void **) {
    for (unsigned bits = 0; bits < 0x10000; bits++) {
        f16 half = {(uint16_t)bits};
        bf16 brain = {(uint16_t)bits};
        if (!std::isnan(to_float(half)))
            assert_int_equal(to_f16(to_float(half)).bits, bits);
        if (!std::isnan(to_float(brain)))
            assert_int_equal(to_bf16(to_float(brain)).bits, bits);
    }
    for (unsigned bits = 0; bits < 0x7BFF; bits++) { /* neighbours below f16's infinity */
        float low = to_float(f16{(uint16_t)bits}), high = to_float(f16{(uint16_t)(bits + 1)}),
              middle = (low + high) / 2;
        assert_int_equal(to_f16(middle).bits, bits % 2 == 0 ? bits : bits + 1);
        assert_int_equal(to_f16(std::nextafter(middle, 0.0f)).bits, bits);
        assert_int_equal(to_f16(std::nextafter(middle, INFINITY)).bits, bits + 1);
    }
    assert_int_equal(to_f16(65520.0f).bits, 0x7C00);
    assert_int_equal(to_f16(65519.99f).bits, 0x7BFF);
    assert_true(std::isnan(to_float(to_f16(NAN))) && std::isnan(to_float(to_bf16(NAN))));
}

/* --- memory and graphs --- */

static void memory_starts_as_not_a_number_and_is_limited(void **) {
    cudaMemPool_t pool;
    cudaMemPoolProps props = {};
    void *memory, *too_much;
    size_t free_before, free_during, total;
    emulation_set_devices(1, size_t{1} << 20);
    assert_int_equal(cudaMemPoolCreate(&pool, &props), cudaSuccess);
    assert_int_equal(cudaMemGetInfo(&free_before, &total), cudaSuccess);
    assert_int_equal(cudaMallocFromPoolAsync(&memory, 1000, pool, stream), cudaSuccess);
    assert_int_equal(cudaMallocFromPoolAsync(&too_much, size_t{1} << 20, pool, stream),
                     cudaErrorMemoryAllocation);
    assert_int_equal(cudaMemGetInfo(&free_during, &total), cudaSuccess);
    assert_int_equal(free_before - free_during, 1000);
    assert_true(std::isnan(*static_cast<float *>(memory)));
    assert_int_equal(cudaFreeAsync(memory, stream), cudaSuccess);
    assert_int_equal(cudaFreeAsync(&total, stream), cudaErrorInvalidValue);
    assert_int_equal(cudaMemPoolDestroy(pool), cudaSuccess);
    emulation_set_devices(1, size_t{8} << 30);
}

static __global__ void add_one(int *value) {
    *value += 1;
}

static void a_graph_runs_when_it_is_launched(void **) {
    int value = 0, copy = -1;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(run(add_one, dim3(1), dim3(1), 0, &value), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(&copy, &value, sizeof copy, cudaMemcpyDefault, stream), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(value, 0);
    assert_int_equal(cudaGraphInstantiate(&exec, graph), cudaSuccess);
    assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
        assert_int_equal(value, i);
        assert_int_equal(copy, i);
    }
    assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
}

static void waiting_breaks_a_capture(void **) {
    cudaGraph_t graph;
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnsupported);
    assert_null(graph);
    cudaGetLastError();
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_of_every_block_runs_once),
        cmocka_unit_test(too_large_blocks_are_refused),
        cmocka_unit_test(barriers_order_shared_memory),
        cmocka_unit_test(shared_memory_that_nobody_wrote_is_not_a_number),
        cmocka_unit_test(a_barrier_that_not_all_reach_fails_the_launch),
        cmocka_unit_test(barriers_count),
        cmocka_unit_test(shuffles_move_between_lanes),
        cmocka_unit_test(blocks_reduce),
        cmocka_unit_test(conversions_round_to_nearest_even),
        cmocka_unit_test(memory_starts_as_not_a_number_and_is_limited),
        cmocka_unit_test(a_graph_runs_when_it_is_launched),
        cmocka_unit_test(waiting_breaks_a_capture),
    };
    return cmocka_run_group_tests(tests, open_stream, close_stream);
}
