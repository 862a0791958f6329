// The kinds of state by name: what a plan may ask for.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "runtime/states/state.h"

namespace hilnas {

// The plan's cache, where a kind follows it.
struct CacheSettings {
  CacheDtype dtype = CacheDtype::kFp32;
  int64_t capacity = 0;
};

struct SizeField {
  const char* name;
  int64_t smallest;
  int64_t fallback;  // negative: the plan must give it
};

struct StateKind {
  const char* name;
  std::vector<SizeField> fields;
  // `sizes` are those of `fields`, in their order.
  Result<std::unique_ptr<State>> (*make)(const std::vector<int64_t>& sizes, const CacheSettings& cache);
};

const std::vector<StateKind>& state_kinds();
// nullptr when there is no kind of that name.
const StateKind* find_state_kind(const std::string& name);

}  // namespace hilnas
