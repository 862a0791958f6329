#include "runtime/states/kv_state.h"

#include <algorithm>

namespace hilnas {
namespace {

Status check(const KvGeometry& g) {
  if (g.dtype == CacheDtype::kInt8) return Status::failure("cache dtype int8 has no kernels yet: use fp32 or fp16");
  if (g.num_kv_heads < 1 || g.head_dim < 1 || g.capacity < 1 || g.window < 0) {
    return Status::failure("a kv state needs num_kv_heads, head_dim and capacity of 1 or more and window >= 0");
  }
  if (g.window != 0 && g.capacity != g.window) return Status::failure("a window kv state has capacity == window");
  if (g.num_kv_heads > kMaxStateElements / g.head_dim / g.capacity) return Status::failure("kv state is too large");
  return Status::success();
}

}  // namespace

Result<std::unique_ptr<KvState>> KvState::make(const KvGeometry& g) {
  if (Status checked = check(g); !checked.ok()) return checked;
  const size_t bytes = static_cast<size_t>(g.num_kv_heads * g.capacity * g.head_dim) * dtype_bytes(g.dtype);
  auto state = std::make_unique<KvState>();
  state->geometry = g;
  state->k = StateMemory(bytes);
  state->v = StateMemory(bytes);
  if (!state->k.valid() || !state->v.valid()) {
    return Status::out_of_memory("out of memory: no " + std::to_string(2 * bytes) + " bytes for a kv state");
  }
  return state;
}

std::vector<StateSize> KvState::sizes() const {
  return {{"num_kv_heads", geometry.num_kv_heads}, {"head_dim", geometry.head_dim}, {"window", geometry.window}};
}

void KvState::fill_noise(int64_t context, Noise& noise) {
  const size_t row = static_cast<size_t>(geometry.head_dim);
  const size_t used = static_cast<size_t>(std::min(context, geometry.capacity)) * row;
  const size_t head_bytes = static_cast<size_t>(geometry.capacity) * row * dtype_bytes(geometry.dtype);
  for (int64_t h = 0; h < geometry.num_kv_heads; ++h) {
    noise.fill(static_cast<char*>(k.data()) + h * head_bytes, used, geometry.dtype);
    noise.fill(static_cast<char*>(v.data()) + h * head_bytes, used, geometry.dtype);
  }
}

std::vector<StatePiece> KvState::pieces(int64_t position) {
  std::vector<StatePiece> found;
  const size_t row = static_cast<size_t>(geometry.head_dim) * dtype_bytes(geometry.dtype);
  const size_t used = static_cast<size_t>(std::min(position, geometry.capacity)) * row;
  for (StateMemory* memory : {&k, &v}) {
    for (int64_t h = 0; h < geometry.num_kv_heads; ++h) {
      found.push_back({static_cast<char*>(memory->data()) + static_cast<size_t>(h * geometry.capacity) * row, used});
    }
  }
  return found;
}

}  // namespace hilnas
