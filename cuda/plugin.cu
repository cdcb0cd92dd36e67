/* The GPU's dispatch table, and the symbol by which the library finds it. */
#include "internal.h"
#include "slots.h"

static const backend_ops table = {
    .magic = BACKEND_MAGIC,
    .abi_major = BACKEND_ABI_MAJOR,
    .abi_minor = BACKEND_ABI_MINOR,
    .reserved = 0,
    .struct_size = sizeof(backend_ops),
    .name = "cuda",

    .device_count = cuda_device_count,
    .device_open = cuda_device_open,
    .device_close = cuda_device_close,
    .device_properties = cuda_device_properties,
    .queue_open = cuda_queue_open,
    .queue_close = cuda_queue_close,
    .prepare = cuda_prepare,
    .synchronize = cuda_synchronize,
    .buffer_allocate = cuda_buffer_allocate,
    .buffer_free = cuda_buffer_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .fill_zero = cuda_fill_zero,
    .copy = cuda_copy,
    .gather_rows = cuda_gather_rows,
    .scatter_add_rows = cuda_scatter_add_rows,
    .scale_add = cuda_scale_add,
    .add_row = cuda_add_row,
    .scale_rows = cuda_scale_rows,
    .sum_rows = cuda_sum_rows,
    .sum_squares = cuda_sum_squares,
    .trace = cuda_trace,
    .gemm = cuda_gemm,
    .gram = cuda_gram,
    .eigh_top = cuda_eigh_top,
    .orthonormalize_rows = cuda_orthonormalize_rows,
    .svd = cuda_svd,
    .rms_norm = cuda_rms_norm,
    .rms_norm_backward = cuda_rms_norm_backward,
    .rope = cuda_rope,
    .gated_activation = cuda_gated_activation,
    .gated_activation_backward = cuda_gated_activation_backward,
    .attention = cuda_attention,
    .attention_backward = cuda_attention_backward,
    .loss_head = cuda_loss_head,
    .entropy_rows = cuda_entropy_rows,
    .spectral_coefficients = cuda_spectral_coefficients,
    .clip_scale = cuda_clip_scale,
    .adamw = cuda_adamw,
    .event_open = cuda_event_open,
    .event_close = cuda_event_close,
    .event_record = cuda_event_record,
    .event_wait = cuda_event_wait,
    .event_elapsed = cuda_event_elapsed,
    .memory_usage = cuda_memory_usage,
    .allow_tf32 = cuda_allow_tf32,
    .capture_begin = cuda_capture_begin,
    .capture_end = cuda_capture_end,
    .fill_normal = cuda_fill_normal,
    .dequantize = cuda_dequantize,
    .quantize = cuda_quantize,
    .gemm_bias = cuda_gemm_bias,
    .gemm_batched = cuda_gemm_batched,
    .svd_top = cuda_svd_top,
    .softmax_rows = cuda_softmax_rows,
    .softmax_rows_backward = cuda_softmax_rows_backward,
    .layer_norm = cuda_layer_norm,
    .layer_norm_backward = cuda_layer_norm_backward,
    .covariance = cuda_covariance,
};

static bool is_known(const backend_host *host) {
    return host != nullptr && host->magic == BACKEND_MAGIC && host->abi_major == BACKEND_ABI_MAJOR &&
           host->abi_minor >= BACKEND_ABI_MINOR && host->struct_size >= sizeof *host;
}

extern "C" __attribute__((visibility("default"))) const backend_ops *balora_backend_plugin(const backend_host *host) {
    if (!is_known(host))
        return nullptr;
    cuda_host = host;
    return &table;
}
