/* What the 256 codes of 8-bit moments stand for. */
#ifndef OPTIM_DYNAMIC_MAP_H
#define OPTIM_DYNAMIC_MAP_H

#include <stdbool.h>

#define DYNAMIC_MAP_CODES 256

/*
 * The dynamic tree map of Dettmers et al. (arXiv 2110.02861): seven decades from 1e-6 to 1, the largest cut into 64 equal
 * parts (128 without a sign) and each decade below into half as many; a code stands for the middle of a part. With 0, 1,
 * and where it is signed the negatives of all but 1, these are 256 numbers, ascending.
 */
void dynamic_map(bool is_signed, float out[DYNAMIC_MAP_CODES]);

#endif
