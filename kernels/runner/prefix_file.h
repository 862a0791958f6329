// The states after a prefix of tokens as one file, for another process to continue from. Layout: docs/runner.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runner/errors.h"
#include "runtime/state_table.h"

namespace hilnas {

// What must be equal in a file and in the chain that reads it.
struct PrefixKey {
  std::string model;  // of the chain's blocks and roles
  CacheDtype dtype = CacheDtype::kFp32;
  int64_t capacity = 0;
  std::vector<int64_t> slots;
};

struct PrefixFile {
  int64_t position = 0;  // tokens read
  int64_t file_bytes = 0;
};

// Writes the states of `key.slots` after the first `position` of `ids`; the file appears complete or not at all.
Outcome<PrefixFile> save_prefix(const std::string& path, const PrefixKey& key, const std::vector<int64_t>& ids,
                                int64_t position);

// Fills the states. Fails with bad_prefix if the file cannot be used; the states are then undefined.
// `ids` are as many tokens of the prompt as the cache has room for: the file's must be the first of them.
Outcome<PrefixFile> restore_prefix(const std::string& path, const PrefixKey& key, const std::vector<int64_t>& ids);

}  // namespace hilnas
