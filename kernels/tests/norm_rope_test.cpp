#include "ops/norm_rope/norm_rope.h"

#include "tests/check.h"
#include "tests/registry_call.h"

using namespace hilnas;
using namespace hilnas::test;

static std::vector<float> inverse_frequencies(int64_t D, double base) {
  std::vector<float> values;
  for (int64_t i = 0; i < D / 2; ++i) values.push_back(static_cast<float>(std::pow(base, -2.0 * i / D)));
  return values;
}

static void random_case(uint32_t seed) {
  Random random(seed);
  const int64_t T = random.integer(1, 70), H = random.integer(1, 6),
                D = random.pick<int64_t>({2, 32, 64, 80, 96, 128, 256});
  const int64_t pos = random.pick<int64_t>({0, 1, random.integer(0, 5000), random.integer(0, 131072)});
  const bool norm = random.integer(0, 1) == 1;
  std::vector<float> x = random.floats(T * H * D), weight = random.floats(D), freq = inverse_frequencies(D, 1e6);
  std::vector<float> expected(x.size()), scratch(2 * D);
  NormRopeArgs args{x.data(), norm ? weight.data() : nullptr, freq.data(), expected.data(), T, H, D, pos, 1e-5f};
  norm_rope_f32__scalar(args, 0, T, scratch.data());
  for (Isa isa : vector_isas()) {
    force_isa(isa);
    std::vector<float> got(x.size());
    args.out = got.data();
    CHECK(norm_rope_f32(args), "memory");
    CHECK_CLOSE(got, expected, D, "seed " + std::to_string(seed) + " D " + std::to_string(D) + " " + isa_name(isa));
  }
}

// Rotation keeps lengths, and scores depend on the distance of two tokens only.
static void distance_only() {
  std::vector<float> q = Random(1).floats(64), k = Random(2).floats(64), freq = inverse_frequencies(64, 10000);
  const auto score = [&](int64_t at_q, int64_t at_k) {
    std::vector<float> a(64), b(64);
    norm_rope_f32({q.data(), nullptr, freq.data(), a.data(), 1, 1, 64, at_q, 0});
    norm_rope_f32({k.data(), nullptr, freq.data(), b.data(), 1, 1, 64, at_k, 0});
    double sum = 0;
    for (int i = 0; i < 64; ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
  };
  CHECK(std::fabs(score(10, 3) - score(110, 103)) < 1e-3, "distance 7 at two places");
}

static CallResult call(int64_t freqs, bool with_weight) {
  std::vector<float> x(2 * 3 * 8, 1.0f), weight(8, 1.0f), freq(16, 0.5f), out(x.size());
  std::vector<int64_t> pos = {5};
  RegistryCall op("hilnas::norm_rope.out");
  op.floats(x, {1, 2, 3, 8});
  with_weight ? op.floats(weight, {8}) : op.none();
  return op.floats(freq, {static_cast<SizesType>(freqs)}).integers(pos).real(1e-6).floats(out, {1, 2, 3, 8}).run();
}

int main() {
  CHECK(call(4, true).ok, "with a weight");
  CHECK(call(4, false).ok, "without a weight");
  CHECK(call(5, true).message.find("inv_freq [5]") != std::string::npos, "a wrong number of frequencies");
  distance_only();
  for (uint32_t seed = 0; seed < 200; ++seed) random_case(seed);
  return finish();
}
