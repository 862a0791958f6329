// Where the keys that a call may see lie: up to three runs of consecutive positions.
#pragma once

#include <cstdint>

#include "runtime/state_table.h"

namespace hilnas {

struct AttentionArgs;

// Key of position first_pos + i of head h: k + h * head_stride + i * row_stride, in elements of dtype.
struct KeySegment {
  const void* k;
  const void* v;
  CacheDtype dtype;
  int64_t row_stride;
  int64_t head_stride;
  int64_t first_pos;
  int64_t count;
};

struct KeySegments {
  KeySegment items[3];
  int count = 0;
  int64_t total() const;
  void add(const KeySegment& segment);
};

// Global attention: one run, rows 0 .. pos + T - 1 of the cache (this chunk already written).
KeySegments global_segments(const AttentionArgs& args, const KvState& state);

// Window attention: what the ring still holds of the window (one or two runs), then the chunk's own keys. The
// chunk must not be written yet: it would overwrite rows that its own first tokens see.
KeySegments window_segments(const AttentionArgs& args, const KvState& state);

}  // namespace hilnas
