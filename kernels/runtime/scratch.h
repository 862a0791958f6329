// Working memory of a kernel call: one growing 64-byte aligned buffer for each thread and purpose.
#pragma once

#include <cstddef>

namespace hilnas {

// kTask: inside one parallel task. kCall: owned by the thread that runs the operator, read by its tasks.
enum class ScratchUse { kTask, kCall };

// Content is undefined; valid until the same thread asks for the same use again. nullptr: out of memory.
float* scratch_floats(ScratchUse use, size_t count);

}  // namespace hilnas
