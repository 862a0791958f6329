// runtime/simd.h against the C library.
#include "runtime/half.h"
#include "tests/check.h"

namespace hilnas {
HILNAS_DECLARE_VARIANTS(void, simd_probe, const float* x, float* e, float* s, float* c, float* half, int64_t n);
HILNAS_DECLARE_VARIANTS(float, simd_sum, const float* x);
HILNAS_DECLARE_VARIANTS(float, simd_largest, const float* x);
void simd_probe__scalar(const float*, float*, float*, float*, float*, int64_t) {}
float simd_sum__scalar(const float*) { return 0; }
float simd_largest__scalar(const float*) { return 0; }
}  // namespace hilnas

using namespace hilnas;
using namespace hilnas::test;

static void probe(Isa isa) {
  std::vector<float> x;
  for (int i = 0; i < 16000; ++i) x.push_back(-100.0f * static_cast<float>(i) / 16000.0f);
  for (int i = 0; i < 16000; ++i) x.push_back(-7.3f * static_cast<float>(i));
  std::vector<float> e(x.size()), s(x.size()), c(x.size()), half(x.size());
  const auto run = HILNAS_SELECT(isa, simd_probe);
  run(x.data(), e.data(), s.data(), c.data(), half.data(), static_cast<int64_t>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    const std::string message = std::string(isa_name(isa)) + " at " + std::to_string(x[i]);
    CHECK(x[i] < -87 ? e[i] == 0 : std::fabs(e[i] - exact) <= 3e-7 * exact, "exp " + message);
    CHECK(std::fabs(s[i] - std::sin(static_cast<double>(x[i]))) < 4e-7, "sin " + message);
    CHECK(std::fabs(c[i] - std::cos(static_cast<double>(x[i]))) < 4e-7, "cos " + message);
    CHECK(half[i] == half_to_float(float_to_half(x[i])), "half " + message);
  }
  std::vector<float> lanes(16, 0.0f);
  for (size_t i = 0; i < lanes.size(); ++i) lanes[i] = static_cast<float>(i % 4 == 2 ? 50 + i : i);
  const float largest = HILNAS_SELECT(isa, simd_largest)(lanes.data()),
              sum = HILNAS_SELECT(isa, simd_sum)(lanes.data());
  const int width = isa == Isa::kAvx512 ? 16 : isa == Isa::kAvx2 ? 8 : 4;
  float expected = 0;
  for (int i = 0; i < width; ++i) expected += lanes[static_cast<size_t>(i)];
  CHECK(sum == expected && largest == static_cast<float>(50 + width - 2), isa_name(isa));
}

int main() {
  for (Isa isa : vector_isas()) probe(isa);
  return finish();
}
