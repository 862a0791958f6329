// Seeded noise that fills states quickly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hilnas {

enum class CacheDtype { kFp32, kFp16, kInt8 };  // int8 has its place here; no operator reads it yet

size_t dtype_bytes(CacheDtype dtype);

// Pseudo-random values in [-1, 1): enough rows that no two neighbouring rows repeat, small enough for the cache.
class Noise {
 public:
  explicit Noise(uint64_t seed);
  void fill(void* out, size_t count, CacheDtype dtype);

 private:
  static constexpr size_t kPeriod = 65521;  // prime, so that no head size divides it
  uint64_t next_bits();
  float next_value();

  std::vector<float> floats_;
  std::vector<uint16_t> halves_;
  uint64_t state_;
};

}  // namespace hilnas
