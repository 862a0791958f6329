#pragma once

#include <cstdint>
#include <optional>

#include "runner/events.h"

namespace hilnas {

// From /proc/self/status. What the kernel does not say is absent.
struct MemoryReading {
  std::optional<int64_t> vm_hwm_bytes, vm_rss_bytes, rss_anon_bytes, rss_file_bytes, vm_data_bytes;
};

MemoryReading read_memory();
EventJson memory_fields(const std::string& at);

}  // namespace hilnas
