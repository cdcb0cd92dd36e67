/*
 * A group of projections of one input, with the low-rank path of an adapter:
 *   student rows  y = x W^T + bias + sum over members  x dW^T      teacher rows  y = x W^T + bias
 * W is frozen and shared: both kinds of rows go through one GEMM.
 *
 * dW = s B A for plain factors. Where the initial ones count, dW = s (B A - B0 A0) is taken as
 *   s (B - B0) A + s B0 (A - A0),
 * which is the same number without the difference of two large ones: it is exactly 0 at the start, and a small
 * change of A or B is not lost when the packed factors have 16 bits.
 *
 * With magnitudes m (DoRA, arXiv 2402.09353) student rows have  y = (m / n) o (x W'^T) + bias,  W' = W + dW and n the norms
 * of its rows, which backward takes as constants. Student and teacher rows are then two GEMMs: z = x W'^T of the student's
 * is kept, since the gradient of m is sum(dy o z) / n.
 *
 * With dropout dW sees x' instead of x, each member its own; with magnitudes as well W' does, and the rest of x only W, as
 * PEFT defines it:  y = x W^T + bias + (m / n - 1) o (x' W^T) + (m / n) o (x' dW^T).
 */
#ifndef MODEL_LINEAR_H
#define MODEL_LINEAR_H

#include "model/weights.h"

/* The low-rank path of one member: packed factors that the step multiplies by, and where its gradients go. */
typedef struct low_rank_member {
    int64_t out_first, out;         /* its columns of the group's output */
    int64_t first;                  /* its first row in packed_a */
    int64_t rows;                   /* rows there: r, or 2 r where the initial factors count */
    int64_t rank;                   /* r: the first rows, A itself */
    float scale;                    /* s */
    matrix_view packed_b;           /* [out, rows]: s B; or s (B - B0), and s B0 */
    matrix_view gradient_a;         /* [rank, in] */
    matrix_view gradient_b;         /* [out, rank] */
    matrix_view gradient_magnitude; /* [1, out]; none without magnitudes */
    uint32_t site;                  /* of dropout: a number of its own among all members of the model */
} low_rank_member;

typedef struct low_rank_group {
    int64_t
        rows; /* of packed_a; 0: no member is adapted. The packed factors and what is kept of x A^T have one dtype. */
    int64_t member_count;
    matrix_view packed_a; /* [rows, in]: A; or A, and A - A0; member after member */
    matrix_view
        scale; /* F32 [1, out of the group]: m / n, 1 where no member is adapted; none without magnitudes */
    matrix_view norms; /* F32 [1, out of the group]: n */
    low_rank_member members[GROUP_MEMBERS_LIMIT];
} low_rank_group;

/* Gradients of a group's own weights. */
typedef struct trained_part {
    int64_t first, out;       /* its columns of the group's output */
    matrix_view weight, bias; /* F32 [out, in], [1, out]; one of them is none */
} trained_part;

typedef struct trained_group {
    int64_t count;
    trained_part parts[2 * GROUP_MEMBERS_LIMIT]; /* weights and biases of each member at most */
} trained_group;

/* Dropout on the input of the low-rank path, see dropout_rows of the dispatch table. */
typedef struct linear_dropout {
    double probability; /* 0: none */
    uint64_t seed;
    matrix_view keys;    /* I32 [2, rows]: of every row of the student */
    matrix_view scratch; /* [rows, in], dtype of the packed factors: x' of one member, or its gradient */
} linear_dropout;

/* What a group multiplies by and what it trains. */
typedef struct linear_group {
    const backend_ops *ops;
    const linear_weights *student;
    const linear_weights *teacher;  /* the same views as the student's where nothing of it is trained */
    const trained_group *trained;   /* NULL: the weights are frozen */
    const low_rank_group *low_rank; /* NULL or rows 0: none */
    linear_dropout dropout;
    /* With magnitudes, activations; more rows than are used: */
    matrix_view kept;   /* [rows, out]: z, from forward to backward */
    matrix_view scaled; /* [rows, out]: scratch of backward */
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
 * the student's. `scratch` from linear_scratch.
 */
balora_status linear_backward(const linear_group *group, backend_queue *queue, matrix_view x, matrix_view dy,
                              matrix_view projected, matrix_view dx, matrix_view scratch);

/* Columns of scratch that the backward of a group with this low-rank path needs: the packed rows, and r more where the
 * initial factors count. */
static inline int64_t linear_scratch_columns(const low_rank_group *low_rank) {
    int64_t columns = low_rank->rows, most = 0;
    for (int64_t i = 0; i < low_rank->member_count; i++) {
        const low_rank_member *member = &low_rank->members[i];
        if (member->rows > member->rank && member->rank > most)
            most = member->rank;
    }
    return columns + most;
}

/* Rows of scratch memory with the columns that this group's backward needs. */
static inline matrix_view linear_scratch(const linear_group *group, matrix_view rows) {
    rows.cols = group->low_rank != NULL ? linear_scratch_columns(group->low_rank) : 0;
    return rows;
}

#endif
