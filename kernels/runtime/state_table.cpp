#include "runtime/state_table.h"

namespace hilnas {

StateTable& StateTable::instance() {
  static StateTable table;
  return table;
}

State* StateTable::state(int64_t slot) const {
  if (slot < 0 || slot >= static_cast<int64_t>(states_.size())) return nullptr;
  return states_[static_cast<size_t>(slot)].get();
}

void StateTable::reset(const std::vector<int64_t>& slots) {
  for (int64_t slot : slots) {
    if (State* found = state(slot)) found->reset();
  }
}

void StateTable::fill_noise(const std::vector<int64_t>& slots, int64_t context, uint64_t seed) {
  Noise noise(seed);
  for (int64_t slot : slots) {
    if (State* found = state(slot)) found->fill_noise(context, noise);
  }
}

size_t StateTable::bytes() const {
  size_t total = 0;
  for (const auto& state : states_) total += state->bytes();
  return total;
}

}  // namespace hilnas
