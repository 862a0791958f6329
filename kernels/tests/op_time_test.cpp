// The time of every operator call is counted under the operator's name, failed calls too.
#include "runtime/op_time.h"

#include "tests/check.h"
#include "tests/registry_call.h"

using namespace hilnas;

static bool call_rms_norm(int64_t rows, int64_t width, int64_t weight_width) {
  std::vector<float> x(static_cast<size_t>(rows * width), 1.0f), out(x.size());
  std::vector<float> weight(static_cast<size_t>(weight_width), 1.0f);
  const auto R = static_cast<test::SizesType>(rows), D = static_cast<test::SizesType>(width);
  test::RegistryCall call("hilnas::rms_norm.out");
  call.floats(x, {R, D}).floats(weight, {static_cast<test::SizesType>(weight_width)}).real(1e-5);
  return call.floats(out, {R, D}).run().ok;
}

int main() {
  CHECK(op_times().empty(), "nothing ran yet");
  const int64_t start = monotonic_ns();
  CHECK(call_rms_norm(64, 256, 256), "a good call");
  const int64_t around = monotonic_ns() - start;
  const auto once = op_times();
  CHECK(once.size() == 1 && once.count("rms_norm") == 1, "only what was called is listed");
  CHECK(once.at("rms_norm") > 0 && once.at("rms_norm") <= around, std::to_string(once.at("rms_norm")));
  CHECK(call_rms_norm(64, 256, 256) && op_times().at("rms_norm") > once.at("rms_norm"), "calls add up");
  clear_op_times();
  CHECK(op_times().empty(), "cleared");
  CHECK(!call_rms_norm(2, 8, 4) && op_times().count("rms_norm") == 1, "a refused call took time too");
  return test::finish();
}
