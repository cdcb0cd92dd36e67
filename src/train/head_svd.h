/*
 * The SVD term where logits are soft-capped: no product of hidden states with W^T W gives their singular values then,
 * so that the logits themselves are taken (regularizer/spectral_logits.h).
 *
 * The term reads all rows of a micro-batch before the gradient of the first is complete. Where the student's logits of
 * all rows fit HEAD_KEPT_BYTES, and the user asks for no smaller chunk, they are kept: the head's own product gives
 * them, the teacher's rows follow chunk by chunk, and the term's gradient joins that of the loss before the head's
 * backward, so that no product with the head comes on top. Otherwise they are computed anew for the Gram matrix and for
 * the products with its vectors, piece by piece of the vocabulary, in the memory of a chunk: two products more of the
 * student's rows with the head.
 */
#ifndef TRAIN_HEAD_SVD_H
#define TRAIN_HEAD_SVD_H

#include "train/head.h"

#define HEAD_KEPT_BYTES ((int64_t)1 << 30)

/* Should the logits of `rows` rows be kept? `chunk`: rows of logits at once, as the user wants it; 0: no wish. */
bool head_svd_keeps(int64_t rows, int64_t vocabulary, int64_t chunk);

/* Fill self->kept with the student's logits of all rows. */
balora_status head_svd_keep(const loss_head *self, int64_t rows);

/* The term's value, and what its gradient needs. NaN where there are no singular values, since a logit is not finite. */
balora_status head_svd_solve(const loss_head *self, int64_t rows, const head_svd *svd);

/*
 * Add the gradient of the rows of a chunk that begins at row `first` to self->dlogits. *done counts the term's rows so
 * far.
 */
balora_status head_svd_add(const loss_head *self, const head_svd *svd, int64_t first,
                           const head_chunk *logits, int64_t *done);

#endif
