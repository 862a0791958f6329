#include "runtime/scratch.h"

#include <cstdlib>

namespace hilnas {
namespace {

struct Buffer {
  float* data = nullptr;
  size_t count = 0;
  ~Buffer() { std::free(data); }
};

}  // namespace

float* scratch_floats(ScratchUse use, size_t count) {
  thread_local Buffer buffers[2];
  Buffer& buffer = buffers[static_cast<size_t>(use)];
  if (buffer.count >= count) return buffer.data;
  std::free(buffer.data);
  const size_t rounded = (count + 1023) / 1024 * 1024;
  buffer.data = static_cast<float*>(std::aligned_alloc(64, rounded * sizeof(float)));
  buffer.count = buffer.data == nullptr ? 0 : rounded;
  return buffer.data;
}

}  // namespace hilnas
