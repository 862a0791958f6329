// Zero-filled memory that takes no RAM until touched, so resident size counts what a context really uses.
#pragma once

#include <cstddef>

namespace hilnas {

class StateMemory {
 public:
  StateMemory() = default;
  explicit StateMemory(size_t bytes);
  StateMemory(StateMemory&& other) noexcept;
  StateMemory& operator=(StateMemory&& other) noexcept;
  StateMemory(const StateMemory&) = delete;
  StateMemory& operator=(const StateMemory&) = delete;
  ~StateMemory();

  bool valid() const { return data_ != nullptr; }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  // Back to zeros and to no resident pages.
  void discard();

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace hilnas
