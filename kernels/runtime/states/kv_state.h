// Keys and values by position, over the whole context or a window of it.
#pragma once

#include <memory>

#include "runtime/state_memory.h"
#include "runtime/states/state.h"

namespace hilnas {

struct KvGeometry {
  CacheDtype dtype = CacheDtype::kFp32;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t capacity = 0;  // tokens; for window attention equal to the window
  int64_t window = 0;    // 0: global. Otherwise token p lives in row p % window
};

// K and V are each [num_kv_heads][capacity][head_dim] in geometry.dtype.
class KvState final : public State {
 public:
  static constexpr const char* kKind = "kv";
  // Fails on a senseless geometry or without memory.
  static Result<std::unique_ptr<KvState>> make(const KvGeometry& geometry);

  const char* kind() const override { return kKind; }
  std::vector<StateSize> sizes() const override;
  size_t bytes() const override { return k.bytes() + v.bytes(); }
  void reset() override {}  // rows are left, since position 0 hides them
  void fill_noise(int64_t context, Noise& noise) override;
  // The used rows of every head, keys before values.
  std::vector<StatePiece> pieces(int64_t position) override;

  KvGeometry geometry;
  StateMemory k, v;
};

}  // namespace hilnas
