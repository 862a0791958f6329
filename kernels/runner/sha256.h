// SHA-256 (FIPS 180-4), for content addresses. A library for one function would have to travel to every phone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace hilnas {

class Sha256 {
 public:
  void update(const uint8_t* data, size_t size);
  std::string hex_digest();  // ends the computation

 private:
  void compress(const uint8_t* block);
  uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t pending_[64] = {};
  size_t num_pending_ = 0;
  uint64_t total_ = 0;
};

}  // namespace hilnas
