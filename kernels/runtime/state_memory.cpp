#include "runtime/state_memory.h"

#include <sys/mman.h>

#include <utility>

namespace hilnas {

StateMemory::StateMemory(size_t bytes) : bytes_(bytes) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped != MAP_FAILED) data_ = mapped;
}

StateMemory::StateMemory(StateMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

StateMemory& StateMemory::operator=(StateMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

StateMemory::~StateMemory() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

void StateMemory::discard() {
  if (data_ != nullptr) madvise(data_, bytes_, MADV_DONTNEED);
}

}  // namespace hilnas
