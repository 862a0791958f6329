#include "runner/instance_pool.h"

#include <algorithm>

namespace hilnas {

std::unique_ptr<StepInstance> InstancePool::take(const std::string& digest) {
  const auto found = std::find_if(idle_.begin(), idle_.end(), [&](const auto& i) { return i->digest() == digest; });
  if (found == idle_.end()) return nullptr;
  std::unique_ptr<StepInstance> instance = std::move(*found);
  idle_.erase(found);
  bytes_ -= instance->file_bytes();
  return instance;
}

int64_t InstancePool::count(const std::string& digest) const {
  return std::count_if(idle_.begin(), idle_.end(), [&](const auto& i) { return i->digest() == digest; });
}

void InstancePool::give_back(std::unique_ptr<StepInstance> instance) {
  bytes_ += instance->file_bytes();
  idle_.push_front(std::move(instance));
  while (bytes_ > max_bytes_) {
    bytes_ -= idle_.back()->file_bytes();
    idle_.pop_back();
  }
}

void InstancePool::clear() {
  idle_.clear();
  bytes_ = 0;
}

}  // namespace hilnas
