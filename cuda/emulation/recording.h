/* Work of a stream: run at once, or kept while the stream records a graph. */
#ifndef EMULATION_RECORDING_H
#define EMULATION_RECORDING_H

#include <cuda_runtime.h>

const std::size_t EMULATED_SHARED_BYTES = 227 * 1024; /* of a block, as an H200 has it */

/* Run all blocks now. */
cudaError_t emulation_play(const cudaLaunchConfig_t &config, const std::function<void()> &thread);

/* Run the work, or record it. The emulated libraries pass their calls through here too. */
cudaError_t emulation_enqueue(cudaStream_t stream, std::function<cudaError_t()> work);

#endif
