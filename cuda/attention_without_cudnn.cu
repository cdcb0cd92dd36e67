/* A build without cuDNN: attention's own kernels do everything. */
#include "attention.h"

balora_status cudnn_attention(backend_queue *, const attention_forward *) {
    return BALORA_ERROR_UNSUPPORTED;
}

balora_status cudnn_attention_backward(backend_queue *, const attention_backward *) {
    return BALORA_ERROR_UNSUPPORTED;
}

int64_t cudnn_scratch_bytes(const backend_queue *, const backend_limits *) {
    return 0;
}

const char *cudnn_version(void) {
    return nullptr;
}

void cudnn_close(backend_queue *) {
}
