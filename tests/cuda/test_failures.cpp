/*
 * The GPU backend when the device fails: every call of the runtime refused in turn, while a small piece of work is done.
 * Whatever fails, an error with origin and native code comes back, nothing leaks, and the next attempt works.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern "C" {
#include <cmocka.h>

#include "backend/host.h"
#include "balora/status.h"

const backend_ops *balora_backend_plugin(const backend_host *host);
}

#include <cuda_runtime.h>

#include <cstdlib>

/* --- an allocator that counts (base/memory.h is C11 and not for C++) --- */

static long blocks_held;

static balora_status allocate(allocator *, void *out, size_t count, size_t size, const char *) {
    void *block = calloc(count * size > 0 ? count * size : 1, 1);
    blocks_held += block != nullptr;
    memcpy(out, &block, sizeof block);
    return block != nullptr ? BALORA_OK : BALORA_ERROR_MEMORY;
}

static void release(allocator *, void *block) {
    blocks_held -= block != nullptr;
    free(block);
}

static backend_host counting_host() {
    backend_host host = *backend_host_services();
    host.allocate = allocate;
    host.release = release;
    return host;
}

static const backend_host host = counting_host();
static const backend_ops *ops;

/* --- the work --- */

enum { ROWS = 5, COLS = 8 };

struct work {
    backend_device *device;
    backend_queue *queue;
    backend_buffer *buffer;
    float values[ROWS * COLS], result[ROWS * COLS];
};

static matrix_view matrix(const work *w, int64_t place, int64_t rows, int64_t cols,
                          int32_t dtype = BALORA_F32) {
    return {w->buffer, place * 512, rows, cols, cols, dtype, 0};
}

#define TRY(expression)                                                                                      \
    do {                                                                                                     \
        balora_status status_ = (expression);                                                                \
        if (status_ != BALORA_OK)                                                                            \
            return status_;                                                                                  \
    } while (0)

/* Kernels, a product, a factorization, transfers and a graph. */
static balora_status compute(work *w) {
    matrix_view x = matrix(w, 0, ROWS, COLS), weight = matrix(w, 1, 1, COLS), y = matrix(w, 2, ROWS, COLS);
    matrix_view gram = matrix(w, 3, ROWS, ROWS, BALORA_F64), wide = matrix(w, 4, ROWS, COLS, BALORA_F64);
    matrix_view values = matrix(w, 5, 1, ROWS, BALORA_F64), vectors = matrix(w, 6, ROWS, ROWS, BALORA_F64);
    backend_limits limits = {};
    limits.gemm_columns = COLS;
    limits.eigh_size = ROWS;
    limits.vocabulary = COLS;
    TRY(ops->prepare(w->queue, &limits));
    TRY(ops->upload(w->queue, w->buffer, x.offset, w->values, sizeof w->values));
    TRY(ops->upload(w->queue, w->buffer, weight.offset, w->values, COLS * sizeof(float)));
    TRY(ops->rms_norm(w->queue, x, weight, 0, 1e-5f, y));
    TRY(ops->copy(w->queue, wide, y));
    TRY(ops->gemm(w->queue, 0, 1, 1, wide, wide, 0, gram));
    TRY(ops->eigh_top(w->queue, gram, values, vectors));
    TRY(ops->capture_begin(w->queue));
    balora_status status = ops->scale_add(w->queue, 2, x, 1, y);
    if (status == BALORA_OK)
        status = ops->download(w->queue, w->result, w->buffer, y.offset, sizeof w->result);
    balora_status ended = ops->capture_end(w->queue, status == BALORA_OK);
    TRY(status);
    TRY(ended);
    return ops->synchronize(w->queue);
}

static balora_status open_parts(work *w) {
    TRY(ops->device_open(&w->device, nullptr, 0, 1));
    TRY(ops->queue_open(&w->queue, w->device));
    return ops->buffer_allocate(&w->buffer, w->device, 8 * 512);
}

static balora_status do_work(work *w) {
    *w = {};
    for (int i = 0; i < ROWS * COLS; i++)
        w->values[i] = (float)((i * 29) % 17) / 8 - 1;
    balora_status status = open_parts(w);
    if (status == BALORA_OK)
        status = compute(w);
    if (w->buffer != nullptr)
        ops->buffer_free(w->device, w->buffer);
    if (w->queue != nullptr)
        ops->queue_close(w->queue);
    if (w->device != nullptr)
        ops->device_close(w->device);
    return status;
}

static void expect_nothing_held(long call) {
    size_t free_bytes, total_bytes;
    cudaMemGetInfo(&free_bytes, &total_bytes);
    if (blocks_held != 0 || free_bytes != total_bytes)
        fail_msg("call %ld refused: %ld blocks and %zu bytes of device memory are kept", call, blocks_held,
                 total_bytes - free_bytes);
}

/* Refuse call after call until the work gets through; `count` calls from there on. */
static void refuse_each(cudaError_t error, long count, balora_status expected) {
    work w;
    long refused = 0;
    for (;; refused++) {
        emulation_fail_calls(refused, count, error);
        balora_status status = do_work(&w);
        emulation_fail_calls(0, 0, cudaSuccess);
        expect_nothing_held(refused);
        if (status == BALORA_OK && refused > 200)
            break;
        if (status == BALORA_OK)
            continue; /* a call that the work can do without, such as keeping freed memory */
        if (status != expected && status != BALORA_ERROR_BACKEND)
            fail_msg("call %ld refused: %s: %s", refused, balora_status_name(status), balora_error_message());
        if (balora_error_origin() != BALORA_ORIGIN_CUDA || balora_error_native_code() != error)
            fail_msg("call %ld refused: origin %d, native code %lld: %s", refused, balora_error_origin(),
                     (long long)balora_error_native_code(), balora_error_message());
        assert_non_null(strstr(balora_error_message(), "cuda"));
        if (refused > 5000)
            fail_msg("the work never got through");
    }
    assert_true(refused > 30);
    assert_int_equal(do_work(&w), BALORA_OK); /* and nothing is left of it */
}

static void memory_that_is_refused(void **) {
    refuse_each(cudaErrorMemoryAllocation, 1, BALORA_ERROR_MEMORY);
}

static void memory_that_is_refused_from_then_on(void **) {
    refuse_each(cudaErrorMemoryAllocation, 1000000, BALORA_ERROR_MEMORY);
}

static void a_lost_device(void **) {
    refuse_each(cudaErrorIllegalAddress, 1000000, BALORA_ERROR_BACKEND);
}

/* --- messages --- */

static void out_of_memory_says_what_is_free(void **) {
    work w = {};
    emulation_set_devices(1, size_t{64} << 20);
    assert_int_equal(ops->device_open(&w.device, nullptr, 0, 1), BALORA_OK);
    assert_int_equal(ops->buffer_allocate(&w.buffer, w.device, INT64_C(40) << 20), BALORA_OK);
    backend_buffer *more = reinterpret_cast<backend_buffer *>(&w);
    assert_int_equal(ops->buffer_allocate(&more, w.device, INT64_C(30) << 20), BALORA_ERROR_MEMORY);
    assert_null(more);
    assert_non_null(strstr(balora_error_message(), "out of device memory; 40 MiB are held"));
    assert_non_null(strstr(balora_error_message(), "24 of 64 MiB are free"));
    backend_memory memory;
    assert_int_equal(ops->memory_usage(w.device, &memory), BALORA_OK);
    assert_int_equal(memory.current, INT64_C(40) << 20);
    assert_int_equal(memory.free, INT64_C(24) << 20);
    ops->buffer_free(w.device, w.buffer);
    ops->device_close(w.device);
    emulation_set_devices(1, size_t{8} << 30);
}

static void a_lost_device_says_so(void **) {
    work w = {};
    assert_int_equal(open_parts(&w), BALORA_OK);
    emulation_fail_calls(1, 1, cudaErrorIllegalAddress); /* the first call of a slot names the device */
    assert_int_equal(ops->fill_zero(w.queue, matrix(&w, 0, ROWS, COLS)), BALORA_ERROR_BACKEND);
    assert_non_null(strstr(balora_error_message(), "cuda:0 (emulated GPU): fill_zero"));
    assert_non_null(strstr(balora_error_message(), "cudaErrorIllegalAddress"));
    assert_non_null(strstr(balora_error_message(), "the device is lost to this process"));
    ops->buffer_free(w.device, w.buffer);
    ops->queue_close(w.queue);
    ops->device_close(w.device);
}

static void devices_that_are_not_there(void **) {
    backend_device *device;
    int32_t count = -1;
    assert_int_equal(ops->device_open(&device, nullptr, 3, 1), BALORA_ERROR_ARGUMENT);
    assert_non_null(strstr(balora_error_message(), "cuda:3 does not exist"));
    emulation_set_devices(0, size_t{8} << 30);
    assert_int_equal(ops->device_count(&count), BALORA_OK);
    assert_int_equal(count, 0);
    assert_int_equal(ops->device_open(&device, nullptr, 0, 1), BALORA_ERROR_UNSUPPORTED);
    assert_non_null(strstr(balora_error_message(), "no GPU"));
    emulation_set_devices(1, size_t{8} << 30);
}

/* --- the handshake --- */

static void a_host_of_another_abi_is_refused(void **) {
    backend_host other = host;
    other.abi_major++;
    assert_null(balora_backend_plugin(&other));
    other = host;
    other.magic ^= 1;
    assert_null(balora_backend_plugin(&other));
    other = host;
    other.struct_size -= 8;
    assert_null(balora_backend_plugin(&other));
    assert_null(balora_backend_plugin(nullptr));
    assert_non_null(balora_backend_plugin(&host));
}

static int setup(void **) {
    ops = balora_backend_plugin(&host);
    return ops != nullptr ? 0 : -1;
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_that_is_refused),
        cmocka_unit_test(memory_that_is_refused_from_then_on),
        cmocka_unit_test(a_lost_device),
        cmocka_unit_test(out_of_memory_says_what_is_free),
        cmocka_unit_test(a_lost_device_says_so),
        cmocka_unit_test(devices_that_are_not_there),
        cmocka_unit_test(a_host_of_another_abi_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, nullptr);
}
