#include "runner/memory_probe.h"

#include <cstring>
#include <fstream>

namespace hilnas {
namespace {

void read_line(const std::string& line, const char* key, std::optional<int64_t>* value) {
  const size_t length = std::strlen(key);
  if (line.compare(0, length, key) == 0) *value = std::stoll(line.substr(length)) * 1024;
}

}  // namespace

MemoryReading read_memory() {
  MemoryReading reading;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    read_line(line, "VmHWM:", &reading.vm_hwm_bytes);
    read_line(line, "VmRSS:", &reading.vm_rss_bytes);
    read_line(line, "RssAnon:", &reading.rss_anon_bytes);
    read_line(line, "RssFile:", &reading.rss_file_bytes);
    read_line(line, "VmData:", &reading.vm_data_bytes);
  }
  return reading;
}

EventJson memory_fields(const std::string& at) {
  const MemoryReading r = read_memory();
  EventJson fields = {{"at", at}};
  if (r.vm_hwm_bytes) fields["vm_hwm_bytes"] = *r.vm_hwm_bytes;
  if (r.vm_rss_bytes) fields["vm_rss_bytes"] = *r.vm_rss_bytes;
  if (r.rss_anon_bytes) fields["rss_anon_bytes"] = *r.rss_anon_bytes;
  if (r.rss_file_bytes) fields["rss_file_bytes"] = *r.rss_file_bytes;
  return fields;
}

}  // namespace hilnas
