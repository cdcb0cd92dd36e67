/* The CPU as a device: its features, and queues with their scratch memory. */
#include <cblas.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cpu/internal.h"

#define LINE        INT64_C(64) /* bytes of a cache line */
#define LOGIT_BYTES (INT64_C(32) << 20)

balora_status cpu_device_count(int32_t *count) {
    *count = 1;
    return BALORA_OK;
}

static const cpu_kernels *best_kernels(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &cpu_avx512_kernels;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &cpu_avx2_kernels;
    return &cpu_x86_64_kernels;
}

balora_status cpu_device_open(backend_device **out, allocator *memory, int32_t index, int32_t threads) {
    *out = NULL;
    if (index != 0)
        return status_fail(BALORA_ERROR_ARGUMENT, "cpu device %d does not exist; there is cpu:0 only", index);
    if (threads < 0)
        return status_fail(BALORA_ERROR_ARGUMENT, "cpu device: %d threads; expected 0 (one a core) or more",
                           threads);
    STATUS_TRY(memory_zeroed(memory, out, 1, sizeof **out, "the cpu device"));
    (*out)->memory = memory;
    (*out)->kernels = best_kernels();
    (*out)->threads = threads > 0 ? threads : parallel_available();
    return BALORA_OK;
}

void cpu_device_close(backend_device *device) {
    if (device != NULL)
        memory_free(device->memory, device);
}

/* The processor's own name, or "x86-64 processor". */
static void processor_name(char *out, size_t bytes) {
    snprintf(out, bytes, "x86-64 processor");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL)
        return;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || value == NULL)
            continue;
        value[strcspn(value, "\n")] = '\0';
        snprintf(out, bytes, "%s", value + strspn(value, ": \t"));
        break;
    }
    fclose(file);
}

/* Pages that the system counts under `name`, as bytes; 0 where it does not tell. */
static int64_t system_bytes(int name) {
    long pages = sysconf(name), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (int64_t)pages * (int64_t)page_bytes : 0;
}

balora_status cpu_device_properties(backend_device *device, backend_properties *out) {
    memset(out, 0, sizeof *out);
    processor_name(out->name, sizeof out->name);
    __builtin_cpu_init();
    snprintf(out->features, sizeof out->features, "%s%s%s%s,kernels=%s,OpenBLAS=%s",
             __builtin_cpu_supports("avx2") ? "avx2" : "sse2", __builtin_cpu_supports("fma") ? ",fma" : "",
             __builtin_cpu_supports("avx512f") ? ",avx512f" : "",
             __builtin_cpu_supports("avx512vnni") ? ",avx512vnni" : "", device->kernels->name,
             openblas_get_corename());
    out->memory_bytes = system_bytes(_SC_PHYS_PAGES);
    out->threads = device->threads;
    out->logit_bytes = LOGIT_BYTES;
    return BALORA_OK;
}

/* --- memory --- */

balora_status cpu_memory_usage(backend_device *device, backend_memory *out) {
    out->current = atomic_load(&device->current_bytes);
    out->peak = atomic_load(&device->peak_bytes);
    out->free = system_bytes(_SC_AVPHYS_PAGES);
    out->total = system_bytes(_SC_PHYS_PAGES);
    return BALORA_OK;
}

balora_status device_take(backend_device *device, int64_t bytes, const char *what, unsigned char **out) {
    STATUS_TRY(memory_new(device->memory, out, (size_t)bytes, 1, what));
    int64_t now = atomic_fetch_add(&device->current_bytes, bytes) + bytes;
    int64_t peak = atomic_load(&device->peak_bytes);
    while (now > peak && !atomic_compare_exchange_weak(&device->peak_bytes, &peak, now))
        ;
    return BALORA_OK;
}

void device_give(backend_device *device, unsigned char *block, int64_t bytes) {
    if (block == NULL)
        return;
    memory_free(device->memory, block);
    atomic_fetch_sub(&device->current_bytes, bytes);
}

/* --- queues --- */

balora_status cpu_queue_open(backend_queue **out, backend_device *device) {
    STATUS_TRY(memory_zeroed(device->memory, out, 1, sizeof **out, "a cpu queue"));
    (*out)->device = device;
    (*out)->kernels = device->kernels;
    return BALORA_OK;
}

void cpu_queue_close(backend_queue *queue) {
    if (queue == NULL)
        return;
    device_give(queue->device, queue->scratch, queue->scratch_bytes);
    memory_free(queue->device->memory, queue);
}

balora_status scratch_reserve(backend_queue *queue, int64_t bytes, void *out) {
    if (bytes > queue->scratch_bytes) {
        device_give(queue->device, queue->scratch, queue->scratch_bytes);
        queue->scratch = NULL;
        queue->scratch_bytes = 0;
        STATUS_TRY(device_take(queue->device, bytes, "scratch of a cpu queue", &queue->scratch));
        queue->scratch_bytes = bytes;
    }
    memcpy(out, &queue->scratch, sizeof queue->scratch);
    return BALORA_OK;
}

static int64_t thread_floats(int64_t floats) {
    int64_t line_floats = LINE / (int64_t)sizeof(float);
    return arith_divide_up(floats, line_floats) * line_floats;
}

balora_status scratch_threads(backend_queue *queue, int64_t floats, float **out, int64_t *stride) {
    *stride = thread_floats(floats);
    return scratch_reserve(queue, *stride * (int64_t)sizeof(float) * parallel_threads(), out);
}

balora_status cpu_prepare(backend_queue *queue, const backend_limits *limits) {
    int64_t threads = arith_max(queue->device->threads, parallel_threads());
    int64_t floats =
        arith_max(gemm_scratch(queue->kernels, limits->gemm_columns), loss_scratch(limits->vocabulary));
    floats = arith_max(floats, queue->kernels->attention_scratch(limits->sequence_length, limits->head_dim));
    floats = arith_max(floats,
                       queue->kernels->attention_backward_scratch(limits->sequence_length, limits->head_dim));
    int64_t bytes = thread_floats(floats) * (int64_t)sizeof(float) * threads;
    bytes = arith_max(bytes, eigh_scratch_bytes(limits->eigh_size));
    void *unused;
    return scratch_reserve(queue, bytes, &unused);
}

balora_status cpu_synchronize(backend_queue *queue) {
    (void)queue;
    return BALORA_OK;
}

/* There is no TF32 here: products are F32 throughout. */
balora_status cpu_allow_tf32(backend_queue *queue, int32_t allowed) {
    (void)queue;
    (void)allowed;
    return BALORA_OK;
}
