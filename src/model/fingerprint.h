/* Telling models apart at a bounded cost. */
#ifndef MODEL_FINGERPRINT_H
#define MODEL_FINGERPRINT_H

#include "model/model.h"

/*
 * A checksum of every tensor's name, shape, storage type, and of at most 16 rows of at most 4 KiB of each: all of a
 * small tensor, a sample of a large one. Other weights, and those that went through any training, differ in it; a
 * change of single elements may not.
 */
balora_status model_fingerprint(uint32_t *out, const balora_model *model, backend_queue *queue);

#endif
