#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/attention/attention.h"
#include "runtime/half.h"

namespace hilnas {
namespace {

float cache_value(const StateMemory& memory, CacheDtype dtype, int64_t index) {
  if (dtype == CacheDtype::kFp16) return half_to_float(static_cast<const uint16_t*>(memory.data())[index]);
  return static_cast<const float*>(memory.data())[index];
}

// Element i of the key (or value) at position j: from this chunk in window attention, else from the cache.
float key_value(const AttentionArgs& a, const KvState& s, bool value, int64_t h, int64_t j, int64_t i) {
  const KvGeometry& g = s.geometry;
  if (g.window != 0 && j >= a.pos) return (value ? a.v : a.k)[((j - a.pos) * a.Hkv + h) * a.D + i];
  const int64_t row = g.window != 0 ? j % g.window : j;
  return cache_value(value ? s.v : s.k, g.dtype, (h * g.capacity + row) * a.D + i);
}

void attend_one(const AttentionArgs& a, const KvState& s, int64_t t, int64_t head) {
  const int64_t h = head / (a.Hq / a.Hkv), position = a.pos + t;
  const int64_t first = a.window > 0 ? std::max<int64_t>(0, position - a.window + 1) : 0;
  const float* q = a.q + (t * a.Hq + head) * a.D;
  std::vector<double> weight(static_cast<size_t>(position - first + 1));
  double largest = -INFINITY, sum = 0;
  for (int64_t j = first; j <= position; ++j) {
    double dot = 0;
    for (int64_t i = 0; i < a.D; ++i) dot += static_cast<double>(q[i]) * key_value(a, s, false, h, j, i);
    weight[j - first] = dot * a.scale;
    largest = std::max(largest, weight[j - first]);
  }
  for (double& w : weight) sum += w = std::exp(w - largest);
  for (int64_t i = 0; i < a.D; ++i) {
    double acc = 0;
    for (int64_t j = first; j <= position; ++j) acc += weight[j - first] * key_value(a, s, true, h, j, i);
    a.out[(t * a.Hq + head) * a.D + i] = static_cast<float>(acc / sum);
  }
}

}  // namespace

void attention_f32__scalar(const AttentionArgs& args, const KvState& state) {
  for (int64_t t = 0; t < args.T; ++t) {
    for (int64_t head = 0; head < args.Hq; ++head) attend_one(args, state, t, head);
  }
}

}  // namespace hilnas
