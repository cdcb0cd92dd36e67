/*
 * Central differences for every backward: of the reference in double, coordinate by coordinate, which proves
 * the reference; and of the slot's own forward in F32 along random directions, against what the slot's
 * backward gives.
 */
#ifndef CONFORMANCE_GRADIENTS_H
#define CONFORMANCE_GRADIENTS_H

#include "bench.h"

/* A scalar function of a point, and its gradient, by the reference or by the slots of the bench. */
typedef struct differentiable differentiable;
struct differentiable {
    slot_number slot;
    char name[128];
    int64_t size; /* of a point */
    double step;  /* through the slot */
    double (*value)(bench *b, const differentiable *self, const double *point, bool through_slot);
    void (*gradient)(bench *b, const differentiable *self, const double *point, double *out,
                     bool through_slot);
    const void *parameters;
    const double *cotangent; /* the scalar is <cotangent, output>; NULL where the output is one */
};

/* Numbers that F32 holds; the caller frees them. */
double *doubles_new(bench *b, int64_t count, double deviation);

/* Both checks at one point. */
void check_gradient(bench *b, const differentiable *f, const double *point);

#endif
