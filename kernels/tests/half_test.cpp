#include "runtime/half.h"

#include "tests/check.h"

using namespace hilnas;

int main() {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float value = half_to_float(static_cast<uint16_t>(h));
    const bool nan = (h & 0x7fff) > 0x7c00;
    CHECK(nan ? std::isnan(value) : float_to_half(value) == h, "round trip of " + std::to_string(h));
  }
  CHECK(float_to_half(1.0f + 1.0f / 2048) == 0x3c00, "a tie goes to the even neighbour below");
  CHECK(float_to_half(1.0f + 3.0f / 2048) == 0x3c02, "and above");
  CHECK(float_to_half(65519.0f) == 0x7bff && float_to_half(65520.0f) == 0x7c00, "the largest value");
  CHECK(half_to_float(0x0001) == std::ldexp(1.0f, -24), "the smallest subnormal");
  return hilnas::test::finish();
}
