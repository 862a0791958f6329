// States saved by one process are the same in another; a file that is torn or of something else is refused in message.
#include "runner/prefix_file.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>

#include "tests/check.h"

using namespace hilnas;

namespace {

constexpr int64_t kTokens = 20, kWindow = 8;
std::string folder;

struct Shape {
  CacheDtype dtype = CacheDtype::kFp32;
  int64_t capacity = 32;
  int64_t head_dim = 4;
};

std::vector<int64_t> prompt(int64_t count) {
  std::vector<int64_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 5);
  return ids;
}

// One state of each kind, in an empty table.
PrefixKey fresh(const Shape& shape = {}) {
  StateTable& table = StateTable::instance();
  table.clear();
  PrefixKey key{"model", shape.dtype, shape.capacity, {}};
  key.slots.push_back(table.add_kv({shape.dtype, 2, shape.head_dim, shape.capacity, 0}).value());
  key.slots.push_back(table.add_conv(6, 2).value());
  key.slots.push_back(table.add_kv({shape.dtype, 1, shape.head_dim, kWindow, kWindow}).value());
  return key;
}

// Every row that `tokens` tokens fill, in the order of slots and heads.
std::vector<char> contents(const PrefixKey& key, int64_t tokens) {
  std::vector<char> all;
  for (int64_t slot : key.slots) {
    if (const ConvState* conv = StateTable::instance().conv(slot)) {
      const char* data = reinterpret_cast<const char*>(conv->data());
      all.insert(all.end(), data, data + conv->bytes());
      continue;
    }
    const KvState* kv = StateTable::instance().kv(slot);
    const KvGeometry& g = kv->geometry;
    const int64_t row = g.head_dim * static_cast<int64_t>(dtype_bytes(g.dtype));
    for (const StateMemory* memory : {&kv->k, &kv->v}) {
      for (int64_t h = 0; h < g.num_kv_heads; ++h) {
        const char* data = static_cast<const char*>(memory->data()) + h * g.capacity * row;
        all.insert(all.end(), data, data + std::min(tokens, g.capacity) * row);
      }
    }
  }
  return all;
}

std::vector<char> save(const std::string& path, const Shape& shape = {}, int64_t tokens = kTokens) {
  const PrefixKey key = fresh(shape);
  StateTable::instance().fill_noise(key.slots, tokens, 7);
  const Outcome<PrefixFile> saved = save_prefix(path, key, prompt(tokens), tokens);
  CHECK(saved.ok() && saved.value().position == tokens, saved.ok() ? "" : saved.error().message);
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  CHECK(saved.ok() && file.tellg() == saved.value().file_bytes, "the size that is told");
  return contents(key, tokens);
}

void round_trip() {
  const std::string path = folder + "/prefix";
  for (CacheDtype dtype : {CacheDtype::kFp32, CacheDtype::kFp16}) {
    for (int64_t tokens : {int64_t{1}, kWindow - 1, kWindow, kTokens, int64_t{32}}) {
      const std::vector<char> before = save(path, {dtype}, tokens);
      const PrefixKey key = fresh({dtype, 48});  // another capacity is another place for every head
      const Outcome<PrefixFile> restored = restore_prefix(path, key, prompt(48));
      CHECK(restored.ok(), restored.ok() ? "" : restored.error().message);
      CHECK(restored.ok() && restored.value().position == tokens, std::to_string(tokens));
      CHECK(contents(key, tokens) == before, std::to_string(tokens) + " tokens");
    }
  }
}

void refused(const std::string& path, const PrefixKey& key, const std::vector<int64_t>& ids, const std::string& message) {
  const Outcome<PrefixFile> restored = restore_prefix(path, key, ids);
  CHECK(!restored.ok() && restored.error().code == ExitCode::kBadPrefix, message);
  if (restored.ok()) return;
  CHECK(restored.error().message.find(message) != std::string::npos, restored.error().message + " | " + message);
}

void others_are_refused() {
  const std::string path = folder + "/prefix";
  save(path);
  PrefixKey other = fresh();
  other.model = "another";
  refused(path, other, prompt(32), "belongs to another model");
  refused(path, fresh({CacheDtype::kFp16}), prompt(32), "holds fp32 states, the plan's cache is fp16");
  refused(path, fresh({CacheDtype::kFp32, 19}), prompt(19), "holds 20 tokens, the plan's cache has room for 19");
  refused(path, fresh({CacheDtype::kFp32, 32, 8}), prompt(32), "holds as state 0");
  PrefixKey fewer = fresh();
  fewer.slots.pop_back();
  refused(path, fewer, prompt(32), "another number of states");
  std::vector<int64_t> ids = prompt(32);
  ids[kTokens - 1] += 1;
  refused(path, fresh(), ids, "holds other tokens than the plan's first 20");
  refused(path, fresh(), prompt(kTokens - 1), "holds other tokens");
  refused(folder + "/absent", fresh(), prompt(32), "cannot read prefix");
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// Every byte counts: the prelude, the header, each state.
void damage_is_found() {
  const std::string path = folder + "/prefix", hurt = folder + "/hurt";
  save(path);
  const std::string whole = read_file(path);
  const PrefixKey key = fresh();
  for (size_t at = 0; at < whole.size(); at += 7) {
    std::string content = whole;
    content[at] = static_cast<char>(content[at] ^ 0x10);
    write_file(hurt, content);
    const Outcome<PrefixFile> restored = restore_prefix(hurt, key, prompt(32));
    CHECK(!restored.ok() && restored.error().code == ExitCode::kBadPrefix, "byte " + std::to_string(at));
  }
  for (size_t length = 0; length < whole.size(); length += 11) {
    write_file(hurt, whole.substr(0, length));
    CHECK(!restore_prefix(hurt, key, prompt(32)).ok(), "cut to " + std::to_string(length));
  }
  write_file(hurt, whole.substr(0, whole.size() - 1));
  refused(hurt, key, prompt(32), "is torn: it has");
  write_file(hurt, whole + "x");
  refused(hurt, key, prompt(32), "is torn: it has");
  write_file(hurt, "something else");
  refused(hurt, key, prompt(32), "is not a prefix file");
  std::string newer = whole;
  newer[8] = 2;
  write_file(hurt, newer);
  refused(hurt, key, prompt(32), "of version 2; this runner reads 1");
  CHECK(restore_prefix(path, key, prompt(32)).ok(), "the whole one");
}

void unwritable() {
  const Outcome<PrefixFile> saved = save_prefix(folder + "/no/such", fresh(), prompt(4), 4);
  CHECK(!saved.ok() && saved.error().code == ExitCode::kBadPrefix, "a folder that is not there");
  CHECK(!saved.ok() && saved.error().message.find("cannot write prefix") == 0, "in message");
}

}  // namespace

int main() {
  char name[] = "/tmp/hilnas_prefix_test_XXXXXX";
  folder = mkdtemp(name);
  round_trip();
  others_are_refused();
  damage_is_found();
  unwritable();
  const std::string remove = "rm -r " + folder;
  if (std::system(remove.c_str()) != 0) std::printf("left behind: %s\n", folder.c_str());
  return hilnas::test::finish();
}
