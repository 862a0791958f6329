#include "runtime/states/noise.h"

#include <algorithm>
#include <cstring>

#include "runtime/half.h"

namespace hilnas {

size_t dtype_bytes(CacheDtype dtype) {
  switch (dtype) {
    case CacheDtype::kFp32: return 4;
    case CacheDtype::kFp16: return 2;
    case CacheDtype::kInt8: return 1;
  }
  return 4;
}

Noise::Noise(uint64_t seed) : floats_(2 * kPeriod), halves_(2 * kPeriod), state_(seed * 2 + 1) {
  for (size_t i = 0; i < kPeriod; ++i) floats_[i] = floats_[i + kPeriod] = next_value();
  std::transform(floats_.begin(), floats_.end(), halves_.begin(), float_to_half);
}

void Noise::fill(void* out, size_t count, CacheDtype dtype) {
  const size_t width = dtype_bytes(dtype);
  const char* source = dtype == CacheDtype::kFp16 ? reinterpret_cast<const char*>(halves_.data())
                                                  : reinterpret_cast<const char*>(floats_.data());
  for (size_t filled = 0; filled < count;) {
    const size_t step = std::min(count - filled, kPeriod);
    const size_t offset = next_bits() % kPeriod;
    std::memcpy(static_cast<char*>(out) + filled * width, source + offset * width, step * width);
    filled += step;
  }
}

uint64_t Noise::next_bits() {  // xorshift64*
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return (state_ * 2685821657736338717ull) >> 32;
}

float Noise::next_value() { return static_cast<float>(next_bits() & 0xffffffu) / 8388608.0f - 1.0f; }

}  // namespace hilnas
