// The process-wide table of sequence states: KV caches and short-convolution histories.
//
// States are no tensors of the program on purpose: a composed candidate then needs no mutable buffer, the same
// block file serves any cache size or type, and the runner can reset, fill and measure states by itself.
// Operators get slot ids and look their state up here. Not for concurrent add/clear and lookup.
#pragma once

#include <cstddef>
#include <cstdint>
#include <variant>
#include <vector>

#include "runtime/state_memory.h"
#include "runtime/status.h"

namespace hilnas {

enum class CacheDtype { kFp32, kFp16, kInt8 };  // int8 has its place here; no operator reads it yet

size_t dtype_bytes(CacheDtype dtype);

struct KvGeometry {
  CacheDtype dtype = CacheDtype::kFp32;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t capacity = 0;  // tokens; for window attention equal to the window
  int64_t window = 0;    // 0: global. Otherwise token p lives in row p % window
};

// K and V are each [num_kv_heads][capacity][head_dim] in geometry.dtype.
struct KvState {
  KvGeometry geometry;
  StateMemory k, v;
};

// The last `taps` values of B*x per channel, oldest first: [taps][channels].
struct ConvState {
  int64_t channels = 0;
  int64_t taps = 0;
  StateMemory history;
  float* data() const { return static_cast<float*>(history.data()); }
};

class StateTable {
 public:
  static StateTable& instance();

  // Slot id of the new state. Fails with words on a senseless geometry or without memory.
  Result<int64_t> add_kv(const KvGeometry& geometry);
  Result<int64_t> add_conv(int64_t channels, int64_t taps);

  // nullptr when the id is unknown or names the other kind.
  KvState* kv(int64_t slot);
  ConvState* conv(int64_t slot);

  void clear();
  // Empties the context of these slots: histories become zero. KV rows are left, since position 0 hides them.
  void reset(const std::vector<int64_t>& slots);
  // Fills the states as if `context` tokens of seeded noise had passed.
  void fill_noise(const std::vector<int64_t>& slots, int64_t context, uint64_t seed);
  size_t bytes() const;
  size_t size() const { return states_.size(); }

 private:
  std::vector<std::variant<KvState, ConvState>> states_;
};

}  // namespace hilnas
