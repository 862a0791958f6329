// ExecuTorch's thread pool, the one XNNPACK uses too: two pools would fight for the cores.
#pragma once

#include <executorch/runtime/core/function_ref.h>

#include <cstdint>

namespace hilnas {

// Runs task(0) .. task(count - 1), each once, handed out as threads become free.
void parallel_tasks(int64_t count, executorch::runtime::FunctionRef<void(int64_t)> task);

int64_t num_threads();

// Replaces the pool. Programs loaded before hold the old pool's address: unload them first.
bool set_num_threads(int64_t threads);

}  // namespace hilnas
