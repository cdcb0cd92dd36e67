/*
 * A group of projections of one input, with the low-rank path of an adapter:
 *   student rows  y = x W^T + bias + sum over members  (x A^T) (s B)^T      teacher rows  y = x W^T + bias
 * W is frozen and shared: both kinds of rows go through one GEMM.
 */
#ifndef MODEL_LINEAR_H
#define MODEL_LINEAR_H

#include "model/weights.h"

/* The low-rank path of one member: packed factors that the step multiplies by, and where its gradients go. */
typedef struct low_rank_member {
    int64_t out_first, out; /* its columns of the group's output */
    int64_t first;          /* its first row in packed_a */
    int64_t rows;           /* rows there: r, or 2 r where the initial factors count */
    int64_t rank;           /* r: the first rows, which are trained */
    matrix_view packed_b;   /* [out, rows]: s B, and -s B0 */
    matrix_view gradient_a; /* [rank, in] */
    matrix_view gradient_b; /* [out, rank] */
} low_rank_member;

typedef struct low_rank_group {
    int64_t rows; /* of packed_a; 0: no member is adapted */
    int64_t member_count;
    float scale;          /* s */
    matrix_view packed_a; /* [rows, in]: A, and A0, member after member */
    low_rank_member members[GROUP_MEMBERS_LIMIT];
} low_rank_group;

/* What a group multiplies by and what it trains. */
typedef struct linear_group {
    const backend_ops *ops;
    const linear_weights *student;
    const linear_weights *teacher;   /* the same as student unless every weight is trained */
    const linear_weights *gradients; /* NULL: the weights are frozen */
    const low_rank_group *low_rank;  /* NULL or rows 0: none */
} linear_group;

/*
 * y = beta y + forward(x), beta 0 or 1. The first `students` rows of x [rows, in] and y [rows, out] are the
 * student's, the rest the teacher's. `projected` [students, low_rank rows] keeps x A^T for backward; none
 * where there is no low-rank path.
 */
balora_status linear_forward(const linear_group *group, backend_queue *queue, matrix_view x, int64_t students,
                             double beta, matrix_view y, matrix_view projected);

/*
 * dx = gradient of the input (none: not wanted); parameter gradients are added to what is there. All rows are
 * the student's. `scratch` [rows, low_rank rows].
 */
balora_status linear_backward(const linear_group *group, backend_queue *queue, matrix_view x, matrix_view dy,
                              matrix_view projected, matrix_view dx, matrix_view scratch);

/* Rows of scratch memory with the columns that this group's backward needs. */
static inline matrix_view linear_scratch(const linear_group *group, matrix_view rows) {
    rows.cols = group->low_rank != NULL ? group->low_rank->rows : 0;
    return rows;
}

#endif
