#include "runtime/state_table.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "runtime/half.h"

namespace hilnas {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 40;

// Pseudo-random values in [-1, 1): enough rows that no two neighbouring rows repeat, small enough for the cache.
class Noise {
 public:
  static constexpr size_t kPeriod = 65521;  // prime, so that no head size divides it
  explicit Noise(uint64_t seed) : floats_(2 * kPeriod), halves_(2 * kPeriod), state_(seed * 2 + 1) {
    for (size_t i = 0; i < kPeriod; ++i) floats_[i] = floats_[i + kPeriod] = next_value();
    std::transform(floats_.begin(), floats_.end(), halves_.begin(), float_to_half);
  }

  void fill(void* out, size_t count, CacheDtype dtype) {
    const size_t width = dtype_bytes(dtype);
    const char* source = dtype == CacheDtype::kFp16 ? reinterpret_cast<const char*>(halves_.data())
                                                    : reinterpret_cast<const char*>(floats_.data());
    for (size_t done = 0; done < count;) {
      const size_t step = std::min(count - done, kPeriod);
      const size_t offset = next_bits() % kPeriod;
      std::memcpy(static_cast<char*>(out) + done * width, source + offset * width, step * width);
      done += step;
    }
  }

 private:
  uint64_t next_bits() {  // xorshift64*
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return (state_ * 2685821657736338717ull) >> 32;
  }
  float next_value() { return static_cast<float>(next_bits() & 0xffffffu) / 8388608.0f - 1.0f; }

  std::vector<float> floats_;
  std::vector<uint16_t> halves_;
  uint64_t state_;
};

void fill_kv(KvState& state, int64_t context, Noise& noise) {
  const KvGeometry& g = state.geometry;
  const size_t row = static_cast<size_t>(g.head_dim);
  const size_t used = static_cast<size_t>(std::min(context, g.capacity)) * row;
  const size_t head_bytes = static_cast<size_t>(g.capacity) * row * dtype_bytes(g.dtype);
  for (int64_t h = 0; h < g.num_kv_heads; ++h) {
    noise.fill(static_cast<char*>(state.k.data()) + h * head_bytes, used, g.dtype);
    noise.fill(static_cast<char*>(state.v.data()) + h * head_bytes, used, g.dtype);
  }
}

Status check_kv(const KvGeometry& g) {
  if (g.dtype == CacheDtype::kInt8) return Status::failure("cache dtype int8 has no kernels yet: use fp32 or fp16");
  if (g.num_kv_heads < 1 || g.head_dim < 1 || g.capacity < 1 || g.window < 0) {
    return Status::failure("a kv state needs num_kv_heads, head_dim and capacity of 1 or more and window >= 0");
  }
  if (g.window != 0 && g.capacity != g.window) return Status::failure("a window kv state has capacity == window");
  if (g.num_kv_heads > kMaxElements / g.head_dim / g.capacity) return Status::failure("kv state is too large");
  return Status::success();
}

}  // namespace

size_t dtype_bytes(CacheDtype dtype) {
  switch (dtype) {
    case CacheDtype::kFp32: return 4;
    case CacheDtype::kFp16: return 2;
    case CacheDtype::kInt8: return 1;
  }
  return 4;
}

StateTable& StateTable::instance() {
  static StateTable table;
  return table;
}

Result<int64_t> StateTable::add_kv(const KvGeometry& g) {
  if (Status checked = check_kv(g); !checked.ok()) return checked;
  const size_t bytes = static_cast<size_t>(g.num_kv_heads * g.capacity * g.head_dim) * dtype_bytes(g.dtype);
  KvState state{g, StateMemory(bytes), StateMemory(bytes)};
  if (!state.k.valid() || !state.v.valid()) {
    return Status::failure("out of memory: no " + std::to_string(2 * bytes) + " bytes for a kv state");
  }
  states_.emplace_back(std::move(state));
  return static_cast<int64_t>(states_.size() - 1);
}

Result<int64_t> StateTable::add_conv(int64_t channels, int64_t taps) {
  if (channels < 1 || taps < 1 || channels > kMaxElements / taps) {
    return Status::failure("a conv state needs channels and taps of 1 or more");
  }
  ConvState state{channels, taps, StateMemory(static_cast<size_t>(channels * taps) * sizeof(float))};
  if (!state.history.valid()) return Status::failure("out of memory: no room for a conv state");
  states_.emplace_back(std::move(state));
  return static_cast<int64_t>(states_.size() - 1);
}

KvState* StateTable::kv(int64_t slot) {
  if (slot < 0 || slot >= static_cast<int64_t>(states_.size())) return nullptr;
  return std::get_if<KvState>(&states_[static_cast<size_t>(slot)]);
}

ConvState* StateTable::conv(int64_t slot) {
  if (slot < 0 || slot >= static_cast<int64_t>(states_.size())) return nullptr;
  return std::get_if<ConvState>(&states_[static_cast<size_t>(slot)]);
}

void StateTable::clear() { states_.clear(); }

void StateTable::reset(const std::vector<int64_t>& slots) {
  for (int64_t slot : slots) {
    if (ConvState* state = conv(slot)) std::memset(state->data(), 0, state->history.bytes());
  }
}

void StateTable::fill_noise(const std::vector<int64_t>& slots, int64_t context, uint64_t seed) {
  Noise noise(seed);
  for (int64_t slot : slots) {
    if (KvState* state = kv(slot)) fill_kv(*state, context, noise);
    if (ConvState* state = conv(slot)) {
      noise.fill(state->data(), static_cast<size_t>(state->channels * state->taps), CacheDtype::kFp32);
    }
  }
}

size_t StateTable::bytes() const {
  size_t total = 0;
  for (const auto& entry : states_) {
    if (const auto* state = std::get_if<KvState>(&entry)) total += state->k.bytes() + state->v.bytes();
    if (const auto* state = std::get_if<ConvState>(&entry)) total += state->history.bytes();
  }
  return total;
}

}  // namespace hilnas
