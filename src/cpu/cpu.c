/* The CPU's dispatch table. */
#include "backend/registry.h"
#include "cpu/internal.h"

static const backend_ops table = {
    .magic = BACKEND_MAGIC,
    .abi_major = BACKEND_ABI_MAJOR,
    .abi_minor = BACKEND_ABI_MINOR,
    .struct_size = sizeof(backend_ops),
    .name = "cpu",

    .device_count = cpu_device_count,
    .device_open = cpu_device_open,
    .device_close = cpu_device_close,
    .device_properties = cpu_device_properties,
    .queue_open = cpu_queue_open,
    .queue_close = cpu_queue_close,
    .prepare = cpu_prepare,
    .synchronize = cpu_synchronize,

    .buffer_allocate = cpu_buffer_allocate,
    .buffer_free = cpu_buffer_free,
    .upload = cpu_upload,
    .download = cpu_download,
    .fill_zero = cpu_fill_zero,

    .copy = cpu_copy,
    .gather_rows = cpu_gather_rows,
    .scatter_add_rows = cpu_scatter_add_rows,
    .scale_add = cpu_scale_add,
    .add_row = cpu_add_row,
    .scale_rows = cpu_scale_rows,
    .sum_rows = cpu_sum_rows,
    .sum_squares = cpu_sum_squares,
    .trace = cpu_trace,

    .gemm = cpu_gemm,
    .gram = cpu_gram,
    .eigh_top = cpu_eigh_top,
    .orthonormalize_rows = cpu_orthonormalize_rows,
    .svd = cpu_svd,

    .rms_norm = cpu_rms_norm,
    .rms_norm_backward = cpu_rms_norm_backward,
    .rope = cpu_rope,
    .gated_activation = cpu_gated_activation,
    .gated_activation_backward = cpu_gated_activation_backward,
    .attention = cpu_attention,
    .attention_backward = cpu_attention_backward,

    .loss_head = cpu_loss_head,
    .entropy_rows = cpu_entropy_rows,
    .spectral_coefficients = cpu_spectral_coefficients,

    .clip_scale = cpu_clip_scale,
    .adamw = cpu_adamw,
};

const backend_ops *cpu_backend(void) {
    return &table;
}
