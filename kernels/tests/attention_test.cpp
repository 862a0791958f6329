#include "ops/attention/attention.h"

#include <algorithm>

#include "tests/check.h"
#include "tests/registry_call.h"

using namespace hilnas;
using namespace hilnas::test;

namespace {

struct Shape {
  int64_t Hq, Hkv, D, window, capacity;
  CacheDtype dtype;
  std::string message() const {
    return "Hq " + std::to_string(Hq) + " Hkv " + std::to_string(Hkv) + " D " + std::to_string(D) + " window " +
           std::to_string(window) + (dtype == CacheDtype::kFp16 ? " fp16" : " fp32");
  }
};

Shape random_shape(Random& random) {
  Shape s;
  s.Hkv = random.integer(1, 3);
  s.Hq = s.Hkv * random.pick<int64_t>({1, 2, 3, 4, 8});
  s.D = random.pick<int64_t>({32, 64, 80, 96, 128, 256});
  s.window = random.pick<int64_t>({0, 0, 1, 5, 32, 100});
  s.capacity = s.window != 0 ? s.window : 700;
  s.dtype = random.pick<CacheDtype>({CacheDtype::kFp32, CacheDtype::kFp16});
  return s;
}

KvState* new_state(const Shape& s) {
  StateTable& table = StateTable::instance();
  return table.kv(table.add_kv({s.dtype, s.Hkv, s.D, s.capacity, s.window}).value());
}

struct Inputs {
  std::vector<float> q, k, v;
};

AttentionArgs make_args(const Shape& s, const Inputs& in, std::vector<float>& out, int64_t T, int64_t pos) {
  return {in.q.data(),
          in.k.data(),
          in.v.data(),
          out.data(),
          T,
          s.Hq,
          s.Hkv,
          s.D,
          pos,
          s.window,
          1.0f / std::sqrt(static_cast<float>(s.D))};
}

// A sequence in random chunks through the vector and the scalar path, each with its own state. Prefill chunks, single
// tokens, wrap-around of the ring and positions in mid-cache all come up.
void random_sequence(uint32_t seed, Isa isa) {
  Random random(seed);
  const Shape s = random_shape(random);
  StateTable::instance().clear();
  StateTable::instance().add_kv({s.dtype, s.Hkv, s.D, s.capacity, s.window}).value();
  new_state(s);
  KvState *vector_state = StateTable::instance().kv(0), *scalar_state = StateTable::instance().kv(1);
  int64_t pos = 0;
  for (int step = 0; step < 8; ++step) {
    const int64_t T = random.pick<int64_t>({1, 1, random.integer(2, 8), random.integer(1, 70), random.integer(1, 70)});
    const Inputs in{random.floats(T * s.Hq * s.D), random.floats(T * s.Hkv * s.D), random.floats(T * s.Hkv * s.D)};
    std::vector<float> got(in.q.size()), expected(in.q.size());
    CHECK(attention_f32(make_args(s, in, got, T, pos), *vector_state, isa).ok(), "vector run");
    CHECK(attention_f32(make_args(s, in, expected, T, pos), *scalar_state, Isa::kScalar).ok(), "scalar run");
    pos += T;
    CHECK_CLOSE(got, expected, s.D + pos,
                "seed " + std::to_string(seed) + " step " + std::to_string(step) + " T " + std::to_string(T) + " pos " +
                    std::to_string(pos - T) + " " + s.message() + " " + isa_name(isa));
  }
}

// Window attention over a ring equals global attention with a mask: the state's trick against the plain formula.
void window_equals_mask(uint32_t seed) {
  Random random(seed);
  Shape ring = random_shape(random);
  ring.window = ring.capacity = random.integer(1, 40);
  ring.dtype = CacheDtype::kFp32;
  Shape plain = ring;
  plain.window = 0;
  plain.capacity = 700;
  StateTable::instance().clear();
  new_state(ring);
  new_state(plain);
  int64_t pos = 0;
  for (int step = 0; step < 6; ++step) {
    const int64_t T = random.integer(1, 50);
    const Inputs in{random.floats(T * ring.Hq * ring.D), random.floats(T * ring.Hkv * ring.D),
                    random.floats(T * ring.Hkv * ring.D)};
    std::vector<float> got(in.q.size()), expected(in.q.size());
    (void)attention_f32(make_args(ring, in, got, T, pos), *StateTable::instance().kv(0), active_isa());
    AttentionArgs masked = make_args(plain, in, expected, T, pos);
    masked.window = ring.window;  // over the plain cache
    (void)attention_f32(masked, *StateTable::instance().kv(1), Isa::kScalar);
    pos += T;
    CHECK_CLOSE(got, expected, ring.D + pos, "ring, seed " + std::to_string(seed) + " " + ring.message());
  }
}

// Long context, one token: many runs are split over threads and joined again.
void long_decode(CacheDtype dtype, Isa isa) {
  const Shape s{8, 4, 64, 0, 5000, dtype};
  StateTable::instance().clear();
  KvState* state = new_state(s);
  StateTable::instance().fill_noise({0}, 4999, 3);
  Random random(9);
  const Inputs in{random.floats(s.Hq * s.D, 4.0f), random.floats(s.Hkv * s.D), random.floats(s.Hkv * s.D)};
  std::vector<float> got(in.q.size()), expected(in.q.size());
  CHECK(attention_f32(make_args(s, in, got, 1, 4999), *state, isa).ok(), "the last free row");
  CHECK(attention_f32(make_args(s, in, expected, 1, 4999), *state, Isa::kScalar).ok(), "scalar");
  CHECK_CLOSE(got, expected, s.D + 5000, std::string("long decode ") + isa_name(isa));
}

// Scores far apart: without the running maximum exp would overflow.
void large_scores(Isa isa) {
  const Shape s{2, 1, 64, 0, 300, CacheDtype::kFp32};
  for (int64_t T : {1, 200}) {
    StateTable::instance().clear();
    KvState* state = new_state(s);
    StateTable::instance().fill_noise({0}, 50, 4);
    Random random(10);
    const Inputs in{random.floats(T * s.Hq * s.D, 100.0f), random.floats(T * s.Hkv * s.D, 10.0f),
                    random.floats(T * s.Hkv * s.D)};
    std::vector<float> got(in.q.size()), expected(in.q.size());
    (void)attention_f32(make_args(s, in, got, T, 50), *state, isa);
    (void)attention_f32(make_args(s, in, expected, T, 50), *state, Isa::kScalar);
    // Scores of some thousands carry a rounding error of 1e-3, which softmax hands on to the weights.
    CHECK(largest_difference(got, expected) < 0.05, std::string("large scores ") + isa_name(isa));
  }
}

CallResult call(int64_t slot, int64_t position, int64_t window, SizesType kv_heads) {
  std::vector<float> q(3 * 4 * 32, 1.0f), k(3 * 4 * 32, 1.0f), v(k), out(q.size());
  std::vector<int64_t> slots = {slot}, pos = {position};
  return RegistryCall("hilnas::attention.out")
      .floats(q, {1, 3, 4, 32})
      .floats(k, {1, 3, kv_heads, 32})
      .floats(v, {1, 3, kv_heads, 32})
      .integers(slots)
      .integers(pos)
      .integer(0)
      .integer(window)
      .real(0.1)
      .floats(out, {1, 3, 4, 32})
      .run();
}

void errors() {
  StateTable& table = StateTable::instance();
  table.clear();
  const int64_t good = table.add_kv({CacheDtype::kFp32, 2, 32, 10, 0}).value();
  const int64_t conv = table.add_conv(4, 2).value();
  CHECK(call(good, 7, 0, 2).ok, "the last three rows");
  CHECK(call(good, 8, 0, 2).message.find("context of 11 tokens exceeds the cache's capacity of 10") != std::string::npos,
        call(good, 8, 0, 2).message);
  CHECK(call(good, 0, 5, 2).message.find("window 5") != std::string::npos, "another window than the state's");
  CHECK(call(good, 0, 0, 1).message.find("the block needs 1 kv heads") != std::string::npos, "other heads");
  CHECK(call(good, 0, 0, 3).message.find("multiple") != std::string::npos, "4 query heads over 3");
  CHECK(call(conv, 0, 0, 2).message.find("holds no kv state") != std::string::npos, "a conv slot");
  CHECK(call(77, 0, 0, 2).message.find("slot 77") != std::string::npos, "an unknown slot");
}

}  // namespace

int main() {
  errors();
  for (Isa isa : vector_isas()) {
    for (uint32_t seed = 0; seed < 120; ++seed) random_sequence(seed, isa);
    long_decode(CacheDtype::kFp32, isa);
    long_decode(CacheDtype::kFp16, isa);
    large_scores(isa);
  }
  for (uint32_t seed = 0; seed < 60; ++seed) window_equals_mask(seed);
  return finish();
}
