#include "runtime/states/fixed_state.h"

namespace hilnas {

Result<std::unique_ptr<ConvState>> ConvState::make(int64_t channels, int64_t taps) {
  if (channels < 1 || taps < 1 || channels > kMaxStateElements / taps) {
    return Status::failure("a conv state needs channels and taps of 1 or more");
  }
  std::unique_ptr<ConvState> state(new ConvState(channels, taps));
  if (!state->valid()) return Status::out_of_memory("out of memory: no room for a conv state");
  return state;
}

Result<std::unique_ptr<MatrixState>> MatrixState::make(int64_t num_heads, int64_t key_dim, int64_t value_dim) {
  if (num_heads < 1 || key_dim < 1 || value_dim < 1 || num_heads > kMaxStateElements / key_dim / value_dim) {
    return Status::failure("a matrix state needs num_heads, key_dim and value_dim of 1 or more");
  }
  std::unique_ptr<MatrixState> state(new MatrixState(num_heads, key_dim, value_dim));
  if (!state->valid()) return Status::out_of_memory("out of memory: no room for a matrix state");
  return state;
}

}  // namespace hilnas
