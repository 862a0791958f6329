// Loaded steps between two plans of one process, so that a search pays for loading a block once.
#pragma once

#include <list>
#include <memory>
#include <string>

#include "runner/step_instance.h"

namespace hilnas {

class InstancePool {
 public:
  // Bounded by the sum of file sizes, least recently used out first. 0 keeps nothing.
  explicit InstancePool(int64_t max_bytes) : max_bytes_(max_bytes) {}

  // An idle instance of this block, or nullptr.
  std::unique_ptr<StepInstance> take(const std::string& digest);
  int64_t count(const std::string& digest) const;
  void give_back(std::unique_ptr<StepInstance> instance);
  // Loaded programs keep the address of the thread pool: before it changes they must all go.
  void clear();
  int64_t bytes() const { return bytes_; }

 private:
  std::list<std::unique_ptr<StepInstance>> idle_;  // most recently used first
  int64_t max_bytes_;
  int64_t bytes_ = 0;
};

}  // namespace hilnas
