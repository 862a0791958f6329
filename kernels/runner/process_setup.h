// Process-wide settings of a plan: threads, cores, a memory limit; and signal handlers that stop the process.
#pragma once

#include <cstdint>

#include "runner/errors.h"
#include "runner/plan.h"

namespace hilnas {

class InstancePool;

// Set by SIGINT and SIGTERM.
bool interrupted();
void install_interrupt_handlers();

// Pins the process and sizes the thread pool; empties the instance pool when either changes. wrong_core when the
// kernel does not grant exactly the requested cores.
RunStatus apply_threads(const Protocol& protocol, InstancePool& pool);

// out_of_memory when the limit is below what the process holds before it loads anything; 0 is no limit.
RunStatus fits_memory_limit(int64_t bytes);

// Limits private writable memory (RLIMIT_DATA: file pages do not count, untouched mappings do); 0 lifts the limit.
void apply_memory_limit(int64_t bytes);

// Turns a failure that happened next to the limit into out_of_memory: the delegate reports its own codes.
RunError explain_memory(RunError error, int64_t attempted_bytes);

}  // namespace hilnas
