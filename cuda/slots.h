/* The slots: cuda_copy and its like, one for every slot of the table. */
#ifndef CUDA_SLOTS_H
#define CUDA_SLOTS_H

#include "internal.h"

#include "backend/slots.h"

#define CUDA_DECLARE_SLOT(name) BACKEND_SLOT_TYPE(name) cuda_##name;
BACKEND_SLOTS(CUDA_DECLARE_SLOT, CUDA_DECLARE_SLOT)
#undef CUDA_DECLARE_SLOT

#endif
