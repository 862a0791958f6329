#include "ops/gated_short_conv/gated_short_conv.h"

#include "tests/check.h"
#include "tests/registry_call.h"

using namespace hilnas;
using namespace hilnas::test;

// A sequence cut into random chunks must give, and leave behind, what one scalar pass over it does.
static void random_sequence(uint32_t seed, Isa isa) {
  Random random(seed);
  const int64_t T = random.integer(1, 140), d = random.integer(1, 90), K = random.integer(2, 8);
  std::vector<float> bcx = random.floats(T * 3 * d), weight = random.floats(d * K);
  std::vector<float> expected_state = random.floats((K - 1) * d), state = expected_state;
  std::vector<float> expected(static_cast<size_t>(T * d)), got(expected.size());
  const GatedShortConvArgs whole{bcx.data(), weight.data(), expected_state.data(), expected.data(), T, d, K};
  gated_short_conv_f32__scalar(whole, 0, T, nullptr);
  advance_history(whole, expected_state.data());
  force_isa(isa);
  for (int64_t t = 0; t < T;) {
    const int64_t chunk = std::min(T - t, random.integer(1, 100));
    gated_short_conv_f32({bcx.data() + t * 3 * d, weight.data(), state.data(), got.data() + t * d, chunk, d, K},
                         state.data());
    t += chunk;
  }
  const std::string words = "seed " + std::to_string(seed) + " " + isa_name(isa);
  CHECK_CLOSE(got, expected, K, words);
  CHECK_CLOSE(state, expected_state, 1, words + " state");
}

static void known_values() {
  // One channel, K = 3, history 10, 20: z = 1 * 10 + 2 * 20 + 3 * (B x) with B = 2, x = 4, then times C = 5.
  std::vector<float> bcx = {2, 5, 4}, weight = {1, 2, 3}, history = {10, 20}, out(1);
  gated_short_conv_f32({bcx.data(), weight.data(), history.data(), out.data(), 1, 1, 3}, history.data());
  CHECK(out[0] == 370.0f, std::to_string(out[0]));
  CHECK(history[0] == 20.0f && history[1] == 8.0f, std::to_string(history[1]));
}

static CallResult call(int64_t slot, int64_t index, int64_t position) {
  std::vector<float> bcx(2 * 12, 1.0f), weight(4 * 3, 1.0f), out(8);
  std::vector<int64_t> slots = {slot}, pos = {position};
  return RegistryCall("hilnas::gated_short_conv.out")
      .floats(bcx, {1, 2, 12})
      .floats(weight, {4, 3})
      .integers(slots)
      .integers(pos)
      .integer(index)
      .floats(out, {1, 2, 4})
      .run();
}

static void errors() {
  StateTable& table = StateTable::instance();
  const int64_t good = table.add_conv(4, 2).value(), wrong_size = table.add_conv(5, 2).value();
  const int64_t kv = table.add_kv({CacheDtype::kFp32, 1, 8, 4, 0}).value();
  CHECK(call(good, 0, 0).ok, "a fitting slot");
  CHECK(call(wrong_size, 0, 0).message.find("5 channels") != std::string::npos, call(wrong_size, 0, 0).message);
  CHECK(call(kv, 0, 0).message.find("holds no conv state") != std::string::npos, "a kv slot");
  CHECK(call(99, 0, 0).message.find("slot 99") != std::string::npos, "an unknown slot");
  CHECK(call(-1, 0, 0).message.find("slot -1") != std::string::npos, "a negative slot");
  CHECK(call(good, 1, 0).message.find("slot index 1 of 1") != std::string::npos, "an index past the slots");
  CHECK(call(good, 0, -3).message.find("negative") != std::string::npos, "a negative position");
  table.clear();
}

int main() {
  known_values();
  errors();
  for (Isa isa : vector_isas()) {
    for (uint32_t seed = 0; seed < 150; ++seed) random_sequence(seed, isa);
  }
  return finish();
}
