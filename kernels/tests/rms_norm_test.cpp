#include "ops/rms_norm/rms_norm.h"

#include "tests/check.h"
#include "tests/registry_call.h"

using namespace hilnas;
using namespace hilnas::test;

static void random_case(uint32_t seed) {
  Random random(seed);
  const int64_t rows = random.integer(1, 70), D = random.integer(1, 300);
  std::vector<float> x = random.floats(rows * D, 3.0f), weight = random.floats(D);
  std::vector<float> expected(x.size());
  RmsNormArgs args{x.data(), weight.data(), expected.data(), rows, D, 1e-5f};
  rms_norm_f32__scalar(args, 0, rows);
  for (Isa isa : vector_isas()) {
    force_isa(isa);
    std::vector<float> got(x.size());
    args.out = got.data();
    rms_norm_f32(args);
    CHECK_CLOSE(got, expected, D, "seed " + std::to_string(seed) + " " + isa_name(isa));
  }
}

static void known_values() {
  std::vector<float> x = {3, 4}, weight = {1, 2}, out(2);
  rms_norm_f32__scalar({x.data(), weight.data(), out.data(), 1, 2, 0.0f}, 0, 1);
  CHECK_CLOSE(out, (std::vector<float>{0.8485281f, 2.2627417f}), 2, "3, 4 over sqrt(12.5)");
}

static void registered() {
  std::vector<float> x(12, 2.0f), weight(4, 1.0f), wrong(3, 1.0f), out(12);
  const CallResult good = RegistryCall("hilnas::rms_norm.out")
                              .floats(x, {1, 3, 4})
                              .floats(weight, {4})
                              .real(0)
                              .floats(out, {1, 3, 4})
                              .run();
  CHECK(good.ok && out[11] == 1.0f, good.message);
  const CallResult bad =
      RegistryCall("hilnas::rms_norm.out").floats(x, {1, 3, 4}).floats(wrong, {3}).real(0).floats(out, {1, 3, 4}).run();
  CHECK(!bad.ok && bad.message.find("weight [3] does not fit x [1,3,4]") != std::string::npos, bad.message);
}

int main() {
  known_values();
  registered();
  for (uint32_t seed = 0; seed < 100; ++seed) random_case(seed);
  return finish();
}
