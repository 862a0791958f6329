#pragma once

#include <cstdint>

namespace hilnas {

// CLOCK_MONOTONIC in nanoseconds: the clock of every time in every event.
int64_t monotonic_ns();

}  // namespace hilnas
