/* Rectangles of logits in F64 and back: what the terms that need more than single precision work on. */
#ifndef REGULARIZER_LOGIT_TILE_H
#define REGULARIZER_LOGIT_TILE_H

#include "tensor/arena.h"

/* tile F64 = the rows of `logits` (F32, BF16 or F16) that `rows` (I32 [1, rows of tile]) names, or its own where `rows`
 * is none; `narrow` is F32 workspace of the tile's shape. */
balora_status logit_tile_load(const backend_ops *ops, backend_queue *queue, matrix_view logits,
                              matrix_view rows, matrix_view tile, matrix_view narrow);

/* The same rows of `gradient` += tile, rounded to F32, or to the gradient's type where rows are named. */
balora_status logit_tile_add(const backend_ops *ops, backend_queue *queue, matrix_view tile, matrix_view rows,
                             matrix_view narrow, matrix_view gradient);

#endif
