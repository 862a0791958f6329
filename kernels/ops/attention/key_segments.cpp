#include "ops/attention/key_segments.h"

#include <algorithm>

#include "ops/attention/attention.h"

namespace hilnas {
namespace {

KeySegment cache_rows(const KvState& state, int64_t first_row, int64_t count, int64_t first_pos) {
  const KvGeometry& g = state.geometry;
  const size_t skip = static_cast<size_t>(first_row * g.head_dim) * dtype_bytes(g.dtype);
  return {static_cast<const char*>(state.k.data()) + skip,
          static_cast<const char*>(state.v.data()) + skip,
          g.dtype,
          g.head_dim,
          g.capacity * g.head_dim,
          first_pos,
          count};
}

}  // namespace

int64_t KeySegments::total() const {
  int64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += items[i].count;
  return sum;
}

void KeySegments::add(const KeySegment& segment) {
  if (segment.count > 0) items[count++] = segment;
}

KeySegments global_segments(const AttentionArgs& args, const KvState& state) {
  KeySegments segments;
  segments.add(cache_rows(state, 0, args.pos + args.T, 0));
  return segments;
}

KeySegments window_segments(const AttentionArgs& args, const KvState& state) {
  const int64_t window = state.geometry.window;
  const int64_t oldest = std::max<int64_t>(0, args.pos - window + 1);
  const int64_t row = oldest % window;
  const int64_t before_wrap = std::min(args.pos - oldest, window - row);
  KeySegments segments;
  segments.add(cache_rows(state, row, before_wrap, oldest));
  segments.add(cache_rows(state, 0, args.pos - oldest - before_wrap, oldest + before_wrap));
  segments.add({args.k, args.v, CacheDtype::kFp32, args.Hkv * args.D, args.D, args.pos, args.T});
  return segments;
}

}  // namespace hilnas
