#include "runtime/state_table.h"

#include <algorithm>

#include "runtime/half.h"
#include "tests/check.h"

using namespace hilnas;

static void geometry_is_checked() {
  StateTable table;
  CHECK(!table.add_kv({CacheDtype::kFp32, 0, 64, 10, 0}).ok(), "no heads");
  CHECK(!table.add_kv({CacheDtype::kFp32, 1, 64, 10, 5}).ok(), "capacity other than the window");
  CHECK(!table.add_kv({CacheDtype::kFp32, 1 << 20, 1 << 20, 1 << 20, 0}).ok(), "more than memory can hold");
  CHECK(!table.add_kv({CacheDtype::kInt8, 1, 64, 10, 0}).ok(), "int8 has no kernels");
  CHECK(!table.add_conv(0, 2).ok() && !table.add_conv(4, 0).ok(), "empty conv state");
  CHECK(table.size() == 0, "a refused state takes no slot");
}

static void slots_know_their_kind() {
  StateTable table;
  const int64_t kv = table.add_kv({CacheDtype::kFp16, 2, 8, 4, 4}).value(), conv = table.add_conv(3, 2).value();
  CHECK(table.kv(kv) != nullptr && table.conv(kv) == nullptr, "kv");
  CHECK(table.conv(conv) != nullptr && table.kv(conv) == nullptr, "conv");
  CHECK(table.kv(-1) == nullptr && table.kv(2) == nullptr && table.conv(2) == nullptr, "unknown ids");
  CHECK(table.bytes() == 2 * 2 * 8 * 4 * 2 + 3 * 2 * 4, std::to_string(table.bytes()));
}

static void noise_is_seeded_and_bounded() {
  StateTable table;
  const int64_t kv = table.add_kv({CacheDtype::kFp32, 2, 8, 100, 0}).value(), conv = table.add_conv(64, 2).value();
  const auto snapshot = [&](uint64_t seed) {
    table.fill_noise({kv, conv}, 60, seed);
    const float* k = static_cast<const float*>(table.kv(kv)->k.data());
    return std::vector<float>(k, k + 2 * 100 * 8);
  };
  const std::vector<float> first = snapshot(7), again = snapshot(7), other = snapshot(8);
  CHECK(first == again, "the same seed");
  CHECK(first != other, "another seed");
  CHECK(std::all_of(first.begin(), first.end(), [](float x) { return x >= -1 && x < 1; }), "in [-1, 1)");
  CHECK(first[59 * 8] != 0 && first[60 * 8] == 0 && first[160 * 8 - 1] != 0, "60 rows of each head");
  table.reset({kv, conv});
  CHECK(table.conv(conv)->data()[5] == 0, "reset empties the history");
}

int main() {
  geometry_is_checked();
  slots_know_their_kind();
  noise_is_seeded_and_bounded();
  return hilnas::test::finish();
}
