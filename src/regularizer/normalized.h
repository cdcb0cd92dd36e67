/*
 * The consistency term of the 2024 form on logits [N, D]:  1/(N D) sum ||s/|s| - t/|t| ||^2,  s and t a student's and a
 * teacher's row. Its gradient is  dS = 2/(N D) (I - u u^T)(u - v)/|s|  with u = s/|s| and v = t/|t|. In F32. A row's
 * mean square has 1e-12 added to it, so that a row of zeros is one, and no division by 0.
 */
#ifndef REGULARIZER_NORMALIZED_H
#define REGULARIZER_NORMALIZED_H

#include "tensor/arena.h"

typedef struct normalized_term {
    const backend *device;
    backend_queue *queue;
    matrix_view weight; /* F32 [1, D]: 1 / sqrt(D) each, which turns a root mean square into a norm */
    matrix_view student, teacher, difference; /* F32 [chunk, D] */
} normalized_term;

/* Places its workspaces; `normalized_prepare` fills them once there is memory. */
void normalized_place(normalized_term *out, arena *plan, int64_t chunk, int64_t columns);
balora_status normalized_prepare(normalized_term *self, allocator *memory, const backend *device,
                                 backend_queue *queue);

/*
 * Of rows of a chunk: those that `rows` (I32 [1, n]) names, or all where it is none. *value (F64 [1, 1]) += the sum over
 * the rows; `gradient` F32 (none: not wanted) += `scale` times the gradient of that sum.
 */
balora_status normalized_evaluate(normalized_term *self, matrix_view student, matrix_view teacher,
                                  matrix_view rows, double scale, matrix_view value, matrix_view gradient);

#endif
