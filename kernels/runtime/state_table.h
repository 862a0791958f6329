// The process-wide table of sequence states.
//
// States are no tensors of the program on purpose: a composed candidate then needs no mutable buffer, the same
// block file serves any cache size or type, and the runner can reset, fill and measure states by itself.
// Operators get slot ids and look their state up here. Not for concurrent add/clear and lookup.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/states/fixed_state.h"
#include "runtime/states/kv_state.h"

namespace hilnas {

class StateTable {
 public:
  static StateTable& instance();

  // Slot id of the new state; a state that could not be made takes no slot.
  template <typename T>
  Result<int64_t> add(Result<std::unique_ptr<T>> made) {
    if (!made.ok()) return made.status();
    states_.push_back(std::move(made.value()));
    return static_cast<int64_t>(states_.size() - 1);
  }
  Result<int64_t> add_kv(const KvGeometry& geometry) { return add(KvState::make(geometry)); }
  Result<int64_t> add_conv(int64_t channels, int64_t taps) { return add(ConvState::make(channels, taps)); }
  Result<int64_t> add_matrix(int64_t num_heads, int64_t key_dim, int64_t value_dim) {
    return add(MatrixState::make(num_heads, key_dim, value_dim));
  }

  // nullptr when the id is unknown.
  State* state(int64_t slot) const;
  // nullptr when the id is unknown or names another kind.
  template <typename T>
  T* get(int64_t slot) const {
    return dynamic_cast<T*>(state(slot));
  }
  KvState* kv(int64_t slot) const { return get<KvState>(slot); }
  ConvState* conv(int64_t slot) const { return get<ConvState>(slot); }
  MatrixState* matrix(int64_t slot) const { return get<MatrixState>(slot); }

  void clear() { states_.clear(); }
  // Empties the context of these slots.
  void reset(const std::vector<int64_t>& slots);
  // Fills the states as if `context` tokens of seeded noise had passed.
  void fill_noise(const std::vector<int64_t>& slots, int64_t context, uint64_t seed);
  size_t bytes() const;
  size_t size() const { return states_.size(); }

 private:
  std::vector<std::unique_ptr<State>> states_;
};

}  // namespace hilnas
