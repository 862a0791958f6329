// States of a fixed size in float32: a convolution's history, a recurrence's matrices.
#pragma once

#include <cstring>
#include <memory>

#include "runtime/state_memory.h"
#include "runtime/states/state.h"

namespace hilnas {

class FixedState : public State {
 public:
  size_t bytes() const override { return memory_.bytes(); }
  void reset() override { std::memset(memory_.data(), 0, memory_.bytes()); }
  void fill_noise(int64_t, Noise& noise) override {
    noise.fill(memory_.data(), memory_.bytes() / sizeof(float), CacheDtype::kFp32);
  }
  std::vector<StatePiece> pieces(int64_t) override { return {{static_cast<char*>(memory_.data()), memory_.bytes()}}; }
  float* data() const { return static_cast<float*>(memory_.data()); }

 protected:
  explicit FixedState(int64_t elements) : memory_(static_cast<size_t>(elements) * sizeof(float)) {}
  bool valid() const { return memory_.valid(); }

 private:
  StateMemory memory_;
};

// The last `taps` values of B*x per channel, oldest first: [taps][channels].
class ConvState final : public FixedState {
 public:
  static constexpr const char* kKind = "conv";
  static Result<std::unique_ptr<ConvState>> make(int64_t channels, int64_t taps);
  const char* kind() const override { return kKind; }
  std::vector<StateSize> sizes() const override { return {{"channels", channels}, {"taps", taps}}; }

  const int64_t channels, taps;

 private:
  ConvState(int64_t c, int64_t t) : FixedState(c * t), channels(c), taps(t) {}
};

// One matrix per head: [num_heads][key_dim][value_dim].
class MatrixState final : public FixedState {
 public:
  static constexpr const char* kKind = "matrix";
  static Result<std::unique_ptr<MatrixState>> make(int64_t num_heads, int64_t key_dim, int64_t value_dim);
  const char* kind() const override { return kKind; }
  std::vector<StateSize> sizes() const override {
    return {{"num_heads", num_heads}, {"key_dim", key_dim}, {"value_dim", value_dim}};
  }

  const int64_t num_heads, key_dim, value_dim;

 private:
  MatrixState(int64_t h, int64_t k, int64_t v) : FixedState(h * k * v), num_heads(h), key_dim(k), value_dim(v) {}
};

}  // namespace hilnas
