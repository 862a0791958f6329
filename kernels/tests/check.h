// Checks that print what they saw and go on; main returns finish().
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "runtime/isa.h"

namespace hilnas::test {

inline int failures = 0;
inline int checks = 0;

inline void report(bool passed, const char* file, int line, const std::string& message) {
  ++checks;
  if (passed) return;
  if (++failures <= 20) std::printf("%s:%d: %s\n", file, line, message.c_str());
}

inline int finish() {
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}

// Fixed seeds, printed with a failure through the case's description.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int64_t integer(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  template <typename T>
  T pick(const std::vector<T>& choices) {
    return choices[static_cast<size_t>(integer(0, static_cast<int64_t>(choices.size()) - 1))];
  }
  std::vector<float> floats(int64_t count, float deviation = 1.0f) {
    std::normal_distribution<float> normal(0, deviation);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& v : values) v = normal(engine_);
    return values;
  }

 private:
  std::mt19937 engine_;
};

inline std::vector<Isa> vector_isas() {
  std::vector<Isa> found;
  for (Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kNeon}) {
    if (isa_available(isa)) found.push_back(isa);
  }
  return found;
}

// Rounding error of a float sum of n products of size about `magnitude`, in any order, with a margin of 4: errors
// behave like a random walk, hence the root.
inline double sum_tolerance(int64_t n, double magnitude) {
  return 4 * std::sqrt(static_cast<double>(n) + 4) * 6e-8 * magnitude;
}

inline double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) largest = difference;  // keeps NaN
  }
  return largest;
}

inline double largest_magnitude(const std::vector<float>& a) {
  return largest_difference(a, std::vector<float>(a.size(), 0.0f));
}

}  // namespace hilnas::test

#define CHECK(condition, message) \
  ::hilnas::test::report((condition), __FILE__, __LINE__, std::string(#condition ": ") + (message))

// Compares whole outputs against the reference; `n` is the length of the longest sum behind one value.
#define CHECK_CLOSE(got, expected, n, message)                                                                       \
  do {                                                                                                             \
    const double hilnas_seen = ::hilnas::test::largest_difference(got, expected);                                  \
    const double hilnas_limit = ::hilnas::test::sum_tolerance(n, 1 + ::hilnas::test::largest_magnitude(expected)); \
    ::hilnas::test::report(hilnas_seen <= hilnas_limit, __FILE__, __LINE__,                                        \
                           std::string(message) + ": differs by " + std::to_string(hilnas_seen) + ", allowed " +     \
                               std::to_string(hilnas_limit));                                                      \
  } while (false)
