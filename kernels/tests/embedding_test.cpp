#include "ops/embedding/embedding.h"

#include "tests/check.h"
#include "tests/registry_call.h"

using namespace hilnas;
using namespace hilnas::test;

static std::vector<uint8_t> random_bytes(Random& random, int64_t count) {
  std::vector<uint8_t> bytes(static_cast<size_t>(count));
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random.integer(0, 255));
  return bytes;
}

static void random_case(uint32_t seed) {
  Random random(seed);
  const int64_t T = random.integer(1, 70), V = random.integer(1, 40), group = random.pick<int64_t>({2, 16, 32, 64});
  const int64_t d = group * random.integer(1, 5);
  const std::vector<uint8_t> packed = random_bytes(random, V * d);
  const std::vector<float> scales = random.floats(V * d / group);
  std::vector<int64_t> ids;
  for (int64_t t = 0; t < T; ++t) ids.push_back(random.integer(0, V - 1));
  std::vector<float> expected4(static_cast<size_t>(T * d)), expected8(expected4.size()), got(expected4.size());
  Embedding4Args four{ids.data(), packed.data(), scales.data(), expected4.data(), T, d, group};
  Embedding8Args eight{ids.data(), reinterpret_cast<const int8_t*>(packed.data()), scales.data(), expected8.data(), T,
                       d};
  embedding_4bit__scalar(four, 0, T);
  embedding_8bit__scalar(eight, 0, T);
  for (Isa isa : vector_isas()) {
    force_isa(isa);
    four.out = eight.out = got.data();
    embedding_4bit(four);
    CHECK(got == expected4, "4 bit, seed " + std::to_string(seed) + " " + isa_name(isa));
    embedding_8bit(eight);
    CHECK(got == expected8, "8 bit, seed " + std::to_string(seed) + " " + isa_name(isa));
  }
}

static void known_values() {
  const uint8_t packed[] = {0x0f, 0x98};  // 15, 0, 8, 9
  const float scales[] = {0.5f, 2.0f};
  const int64_t id = 0;
  std::vector<float> out(4);
  embedding_4bit({&id, packed, scales, out.data(), 1, 4, 2});
  CHECK((out == std::vector<float>{3.5f, -4.0f, 0.0f, 2.0f}), std::to_string(out[0]));
}

static CallResult call(int64_t id) {
  std::vector<uint8_t> packed(3 * 4, 0x88);
  std::vector<float> scales(3, 1.0f), out(8);
  std::vector<int64_t> ids = {id};
  return RegistryCall("hilnas::embedding_4bit.out")
      .tensor(ids.data(), {1, 1}, ScalarType::Long)
      .tensor(packed.data(), {3, 4}, ScalarType::Byte)
      .floats(scales, {3, 1})
      .integer(8)
      .floats(out, {1, 1, 8})
      .run();
}

int main() {
  known_values();
  CHECK(call(2).ok, "the last row");
  CHECK(call(3).message.find("token id 3 is outside the vocabulary of 3") != std::string::npos, call(3).message);
  CHECK(!call(-1).ok, "a negative id");
  for (uint32_t seed = 0; seed < 60; ++seed) random_case(seed);
  return finish();
}
