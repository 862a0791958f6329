#include "tests/check.h"
#include "tests/registry_call.h"

using namespace hilnas;
using namespace hilnas::test;

constexpr SizesType H = 2, K = 3, V = 4;

static CallResult read(int64_t slot, std::vector<float>& out, int64_t value_dim = V) {
  std::vector<float> x(5, 1.0f);
  std::vector<int64_t> slots = {slot};
  return RegistryCall("hilnas::matrix_state_read.out")
      .floats(x, {1, 1, 5})
      .integers(slots)
      .integer(0)
      .integer(H)
      .integer(K)
      .integer(value_dim)
      .floats(out, {1, H, K, V})
      .run();
}

static CallResult write(int64_t slot, std::vector<float>& matrix, std::vector<float>& x, std::vector<float>& out) {
  std::vector<int64_t> slots = {slot};
  return RegistryCall("hilnas::matrix_state_write.out")
      .floats(x, {1, 1, 5})
      .floats(matrix, {1, H, K, V})
      .integers(slots)
      .integer(0)
      .floats(out, {1, 1, 5})
      .run();
}

static void what_is_written_is_read() {
  StateTable& table = StateTable::instance();
  const int64_t slot = table.add_matrix(H, K, V).value(), other = table.add_matrix(H, K, V).value();
  Random random(3);
  std::vector<float> matrix = random.floats(H * K * V), x = random.floats(5), passed(5), found(matrix.size(), 9.0f);
  CHECK(read(slot, found).ok && found == std::vector<float>(matrix.size(), 0.0f), "a new state is empty");
  CHECK(write(slot, matrix, x, passed).ok && passed == x, "x is passed on");
  CHECK(read(slot, found).ok && found == matrix, "the matrix comes back");
  CHECK(read(other, found).ok && found == std::vector<float>(matrix.size(), 0.0f), "another slot is untouched");
  table.reset({slot});
  CHECK(read(slot, found).ok && found == std::vector<float>(matrix.size(), 0.0f), "reset empties it");
}

static void a_slot_that_does_not_fit_is_refused() {
  StateTable& table = StateTable::instance();
  const int64_t good = table.add_matrix(H, K, V).value(), conv = table.add_conv(4, 2).value();
  const int64_t wide = table.add_matrix(H, K, V + 1).value();
  std::vector<float> out(H * K * V);
  CHECK(read(conv, out).message.find("holds no matrix state") != std::string::npos, read(conv, out).message);
  CHECK(read(wide, out).message.find("2 heads of 3 x 5, the block needs 2 heads of 3 x 4") != std::string::npos,
        read(wide, out).message);
  CHECK(!read(good, out, V + 1).ok && !read(99, out).ok && !read(-1, out).ok, "sizes and ids");
  CHECK(!table.add_matrix(0, 1, 1).ok() && !table.add_matrix(1, 1, int64_t{1} << 50).ok(), "senseless sizes");
}

int main() {
  what_is_written_is_read();
  a_slot_that_does_not_fit_is_refused();
  return finish();
}
