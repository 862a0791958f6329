// Causal grouped-query attention over a KV state, global or sliding window.
//
// Shape letters: T tokens of this call, Hq query heads, Hkv key/value heads, G = Hq / Hkv, D head size.
// Two vector kernels: `tile` for many query rows (prefill) and `decode_part` for one token over a long context.
#pragma once

#include <cstdint>

#include "ops/attention/key_segments.h"
#include "runtime/isa.h"
#include "runtime/state_table.h"
#include "runtime/status.h"

namespace hilnas {

struct AttentionArgs {
  const float* q;  // [T][Hq][D]
  const float* k;  // [T][Hkv][D], this chunk's own
  const float* v;
  float* out;  // [T][Hq][D]
  int64_t T, Hq, Hkv, D;
  int64_t pos;     // tokens before this call
  int64_t window;  // 0: global; else token at position a sees keys j with a - window < j <= a
  float scale;
};

// Query rows of one tile: (token, head of the group) pairs sharing one K/V head.
constexpr int64_t kTileRows = 64;
// Keys handled between two softmax updates.
constexpr int64_t kTileKeys = 64;

// Floats of working memory of one tile task.
inline int64_t attention_tile_scratch(int64_t D) {
  return 2 * D * kTileRows + kTileKeys * kTileRows + 2 * kTileKeys * D + 3 * kTileRows;
}

// One partial result of decode: running maximum, sum of exponentials and unscaled output of each head in a group.
inline int64_t decode_part_floats(int64_t G, int64_t D) { return G * (D + 2); }

// Plain loops over positions, in double: the measure of all others. Reads the cache as it is after the write.
void attention_f32__scalar(const AttentionArgs& args, const KvState& state);

#if defined(HILNAS_HAS_AVX2)
#define HILNAS_ATTENTION_VARIANTS(X) X(avx2) X(avx512)
#elif defined(HILNAS_HAS_NEON)
#define HILNAS_ATTENTION_VARIANTS(X) X(neon)
#else
#define HILNAS_ATTENTION_VARIANTS(X)
#endif

// tile: tokens t0 .. t1 - 1 of one K/V head; (t1 - t0) * G <= kTileRows.
// decode_part: token 0 over keys first .. first + count - 1 of one segment, into `part`.
// store_rows: writes `count` floats in the cache's type.
#define HILNAS_DECLARE_ATTENTION(isa)                                                                                  \
  void attention_tile__##isa(const AttentionArgs& args, const KeySegments& keys, int64_t kv_head, int64_t t0,          \
                             int64_t t1, float* scratch);                                                              \
  void attention_decode_part__##isa(const AttentionArgs& args, const KeySegment& keys, int64_t kv_head, int64_t first, \
                                    int64_t count, float* part);                                                       \
  void attention_store_rows__##isa(void* cache, CacheDtype dtype, int64_t offset, const float* source, int64_t count);
HILNAS_ATTENTION_VARIANTS(HILNAS_DECLARE_ATTENTION)
#undef HILNAS_DECLARE_ATTENTION

// Whether the vector variant takes these sizes; others go to the scalar one.
bool attention_fits(Isa isa, const AttentionArgs& args);

// Writes the chunk's keys and values into the state and attends, with `isa` and all threads.
// Fails with message when pos + T exceeds a global state's capacity.
Status attention_f32(const AttentionArgs& args, KvState& state, Isa isa);

}  // namespace hilnas
