/* The slots, by file. */
#ifndef CUDA_SLOTS_H
#define CUDA_SLOTS_H

#include "internal.h"

/* device.cu */
balora_status cuda_device_count(int32_t *count);
balora_status cuda_device_open(backend_device **out, allocator *memory, int32_t index, int32_t threads);
void cuda_device_close(backend_device *device);
balora_status cuda_device_properties(backend_device *device, backend_properties *out);
balora_status cuda_memory_usage(backend_device *device, backend_memory *out);

/* queue.cu */
balora_status cuda_queue_open(backend_queue **out, backend_device *device);
void cuda_queue_close(backend_queue *queue);
balora_status cuda_prepare(backend_queue *queue, const backend_limits *limits);
balora_status cuda_synchronize(backend_queue *queue);
balora_status cuda_upload(backend_queue *queue, backend_buffer *buffer, int64_t offset, const void *host,
                          int64_t bytes);
balora_status cuda_download(backend_queue *queue, void *host, backend_buffer *buffer, int64_t offset,
                            int64_t bytes);
balora_status cuda_allow_tf32(backend_queue *queue, int32_t allowed);
balora_status cuda_capture_begin(backend_queue *queue);
balora_status cuda_capture_end(backend_queue *queue, int32_t run);

/* buffer.cu */
balora_status cuda_buffer_allocate(backend_buffer **out, backend_device *device, int64_t bytes);
void cuda_buffer_free(backend_device *device, backend_buffer *buffer);
balora_status cuda_fill_zero(backend_queue *queue, matrix_view x);
balora_status cuda_event_open(backend_event **out, backend_device *device);
void cuda_event_close(backend_event *event);
balora_status cuda_event_record(backend_queue *queue, backend_event *event);
balora_status cuda_event_wait(backend_queue *queue, backend_event *event);
balora_status cuda_event_elapsed(backend_event *begin, backend_event *end, double *seconds);

/* convert.cu */
balora_status cuda_copy(backend_queue *queue, matrix_view dst, matrix_view src);
balora_status cuda_gather_rows(backend_queue *queue, matrix_view dst, matrix_view src, matrix_view indices);
balora_status cuda_scatter_add_rows(backend_queue *queue, matrix_view dst, matrix_view src,
                                    matrix_view indices);

/* elements.cu */
balora_status cuda_scale_add(backend_queue *queue, double alpha, matrix_view x, double beta, matrix_view y);
balora_status cuda_add_row(backend_queue *queue, matrix_view y, matrix_view row);
balora_status cuda_scale_rows(backend_queue *queue, matrix_view x, matrix_view weights);
balora_status cuda_fill_normal(backend_queue *queue, matrix_view x, uint64_t seed, uint64_t stream,
                               double deviation);

/* sums.cu */
balora_status cuda_sum_rows(backend_queue *queue, matrix_view x, double beta, matrix_view out);
balora_status cuda_sum_squares(backend_queue *queue, matrix_view x, double beta, matrix_view out);
balora_status cuda_trace(backend_queue *queue, matrix_view a, matrix_view out);
balora_status cuda_covariance(backend_queue *queue, matrix_view z, matrix_view mean, matrix_view c);

/* quantize.cu */
balora_status cuda_dequantize(backend_queue *queue, const quantized_matrix *args);
balora_status cuda_quantize(backend_queue *queue, const quantized_matrix *args);

/* products.cu */
balora_status cuda_gemm(backend_queue *queue, int transpose_a, int transpose_b, double alpha, matrix_view a,
                        matrix_view b, double beta, matrix_view c);
balora_status cuda_gemm_bias(backend_queue *queue, int transpose_a, int transpose_b, double alpha,
                             matrix_view a, matrix_view b, double beta, matrix_view c, matrix_view bias);
balora_status cuda_gemm_batched(backend_queue *queue, const gemm_batch *args);
balora_status cuda_gram(backend_queue *queue, int transpose, matrix_view a, matrix_view c);

/* factors.cu */
balora_status cuda_eigh_top(backend_queue *queue, matrix_view a, matrix_view values, matrix_view vectors);
balora_status cuda_orthonormalize_rows(backend_queue *queue, matrix_view x);
balora_status cuda_svd(backend_queue *queue, matrix_view a, matrix_view u, matrix_view s, matrix_view vt);
balora_status cuda_svd_top(backend_queue *queue, matrix_view a, matrix_view u, matrix_view s, matrix_view vt);

/* norm.cu, layer_norm.cu */
balora_status cuda_rms_norm(backend_queue *queue, matrix_view x, matrix_view weight, float weight_offset,
                            float epsilon, matrix_view y);
balora_status cuda_rms_norm_backward(backend_queue *queue, matrix_view x, matrix_view weight,
                                     float weight_offset, float epsilon, matrix_view dy, matrix_view dx,
                                     matrix_view dweight);
balora_status cuda_layer_norm(backend_queue *queue, matrix_view x, matrix_view weight, matrix_view bias,
                              float epsilon, matrix_view y);
balora_status cuda_layer_norm_backward(backend_queue *queue, matrix_view x, matrix_view weight, float epsilon,
                                       matrix_view dy, matrix_view dx, matrix_view dweight,
                                       matrix_view dbias);

/* softmax.cu */
balora_status cuda_softmax_rows(backend_queue *queue, float scale, matrix_view x, matrix_view y);
balora_status cuda_softmax_rows_backward(backend_queue *queue, float scale, matrix_view y, matrix_view dy,
                                         matrix_view dx);

/* rope.cu */
balora_status cuda_rope(backend_queue *queue, matrix_view x, int64_t head_dim, matrix_view positions,
                        matrix_view table, int inverse);

/* activation.cu */
balora_status cuda_gated_activation(backend_queue *queue, int32_t activation, matrix_view gate,
                                    matrix_view up, matrix_view out);
balora_status cuda_gated_activation_backward(backend_queue *queue, int32_t activation, matrix_view gate,
                                             matrix_view up, matrix_view dout, matrix_view dgate,
                                             matrix_view dup);

/* attention.cu */
balora_status cuda_attention(backend_queue *queue, const attention_forward *args);
balora_status cuda_attention_backward(backend_queue *queue, const attention_backward *args);

/* loss.cu */
balora_status cuda_loss_head(backend_queue *queue, const loss_head_rows *args);
balora_status cuda_entropy_rows(backend_queue *queue, matrix_view logits, float temperature, matrix_view out);

/* spectral.cu */
balora_status cuda_spectral_coefficients(backend_queue *queue, const spectral_coefficients *args);

/* optimizer.cu */
balora_status cuda_clip_scale(backend_queue *queue, matrix_view sum_squares, double max_norm,
                              matrix_view scale);
balora_status cuda_adamw(backend_queue *queue, const adamw_update *args);

#endif
