#include "runtime/states/kinds.h"

#include "runtime/states/fixed_state.h"
#include "runtime/states/kv_state.h"

namespace hilnas {
namespace {

using Sizes = std::vector<int64_t>;

template <typename T>
Result<std::unique_ptr<State>> as_state(Result<std::unique_ptr<T>> made) {
  if (!made.ok()) return made.status();
  return std::unique_ptr<State>(std::move(made.value()));
}

Result<std::unique_ptr<State>> make_kv(const Sizes& s, const CacheSettings& cache) {
  const int64_t window = s[2];
  return as_state(KvState::make({cache.dtype, s[0], s[1], window > 0 ? window : cache.capacity, window}));
}

Result<std::unique_ptr<State>> make_conv(const Sizes& s, const CacheSettings&) {
  return as_state(ConvState::make(s[0], s[1]));
}

Result<std::unique_ptr<State>> make_matrix(const Sizes& s, const CacheSettings&) {
  return as_state(MatrixState::make(s[0], s[1], s[2]));
}

}  // namespace

const std::vector<StateKind>& state_kinds() {
  static const std::vector<StateKind> kinds = {
      {KvState::kKind, {{"num_kv_heads", 1, -1}, {"head_dim", 1, -1}, {"window", 0, 0}}, make_kv},
      {ConvState::kKind, {{"channels", 1, -1}, {"taps", 1, -1}}, make_conv},
      {MatrixState::kKind, {{"num_heads", 1, -1}, {"key_dim", 1, -1}, {"value_dim", 1, -1}}, make_matrix},
  };
  return kinds;
}

const StateKind* find_state_kind(const std::string& name) {
  for (const StateKind& kind : state_kinds()) {
    if (name == kind.name) return &kind;
  }
  return nullptr;
}

}  // namespace hilnas
