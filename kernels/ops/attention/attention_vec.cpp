// Prefill kernel: one K/V head, up to kTileRows (token, head) query rows, all keys in tiles with online softmax
// (Milakov and Gimelshein 2018; Dao et al. 2022).
//
// Everything is kept transposed, rows along the vector lanes: scores S[key][row], output O[d][row]. So the
// maximum, the exponentials and the rescaling are plain vector arithmetic without a horizontal step, K and V are
// read in place as broadcast scalars (nothing is packed), and only Q and the result are transposed, once a tile.
#include "ops/attention/attention.h"
#include "runtime/simd.h"

namespace hilnas {
namespace HILNAS_ISA {

constexpr int kMaxVectors = kTileRows / kWidth;      // that cover all rows
constexpr int kBlock = 4;                            // output rows of one micro kernel
constexpr int kColumns = HILNAS_WIDTH == 8 ? 2 : 4;  // vectors of one micro kernel: AVX2 has only 16 registers
constexpr float kMasked = -1e30f;

struct Tile {
  const AttentionArgs& args;
  int64_t rows;  // in use
  int vectors;   // that cover them
  float* q;      // [D][kTileRows], scaled
  float* o;      // [D][kTileRows]
  float* s;      // [kTileKeys][kTileRows]
  float* k;      // [kTileKeys][D], for a cache that is not fp32
  float* v;
  float* maximum;   // [kTileRows]
  float* sum;       // [kTileRows]
  float* position;  // [kTileRows], as float: exact below 2^24
};

// Keys of a tile as fp32, in place or converted.
struct KeyTile {
  const float* k;
  const float* v;
  int64_t stride;
  int64_t first_pos;
  int64_t count;
};

// c[r][0 .. V vectors) (+)= sum over i of a[r * row_stride + i * step] * b[i][...], for R rows r.
template <int R, int V, bool kAccumulate>
static inline void multiply(const float* a, int64_t row_stride, int64_t step, const float* b, float* c, int64_t n) {
  vf acc[R][V];
  for (int r = 0; r < R; ++r) {
    for (int u = 0; u < V; ++u) acc[r][u] = kAccumulate ? load(c + r * kTileRows + u * kWidth) : vf{};
  }
  for (int64_t i = 0; i < n; ++i) {
    vf column[V];
    for (int u = 0; u < V; ++u) column[u] = load(b + i * kTileRows + u * kWidth);
    for (int r = 0; r < R; ++r) {
      const vf scalar = splat(a[r * row_stride + i * step]);
      for (int u = 0; u < V; ++u) acc[r][u] = scalar * column[u] + acc[r][u];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int u = 0; u < V; ++u) store(c + r * kTileRows + u * kWidth, acc[r][u]);
  }
}

// The same for any number of rows and V vectors of columns.
template <int V, bool kAccumulate>
static void multiply_rows(const float* a, int64_t row_stride, int64_t step, const float* b, float* c, int64_t rows,
                          int64_t n) {
  int64_t r = 0;
  for (; r + kBlock <= rows; r += kBlock) {
    multiply<kBlock, V, kAccumulate>(a + r * row_stride, row_stride, step, b, c + r * kTileRows, n);
  }
  for (; r < rows; ++r) multiply<1, V, kAccumulate>(a + r * row_stride, row_stride, step, b, c + r * kTileRows, n);
}

template <bool kAccumulate>
static void multiply_all(const float* a, int64_t row_stride, int64_t step, const float* b, float* c, int64_t rows,
                         int64_t n, int vectors) {
  int u = 0;
  for (; u + kColumns <= vectors; u += kColumns) {
    multiply_rows<kColumns, kAccumulate>(a, row_stride, step, b + u * kWidth, c + u * kWidth, rows, n);
  }
  for (; u < vectors; ++u) {
    multiply_rows<1, kAccumulate>(a, row_stride, step, b + u * kWidth, c + u * kWidth, rows, n);
  }
}

static Tile make_tile(const AttentionArgs& args, int64_t rows, float* memory) {
  const int64_t D = args.D;
  float* q = memory;
  float* o = q + D * kTileRows;
  float* s = o + D * kTileRows;
  float* k = s + kTileKeys * kTileRows;
  float* v = k + kTileKeys * D;
  float* rest = v + kTileKeys * D;
  const int vectors = static_cast<int>((rows + kWidth - 1) / kWidth);
  return {args, rows, vectors, q, o, s, k, v, rest, rest + kTileRows, rest + 2 * kTileRows};
}

// Row r is token t0 + r / G, head kv_head * G + r % G. Rows past the end repeat the last one and are never stored.
static void load_queries(const Tile& tile, int64_t kv_head, int64_t t0) {
  const AttentionArgs& a = tile.args;
  const int64_t G = a.Hq / a.Hkv;
  for (int64_t r = 0; r < tile.vectors * kWidth; ++r) {
    const int64_t row = r < tile.rows ? r : tile.rows - 1;
    const int64_t t = t0 + row / G;
    const float* q = a.q + (t * a.Hq + kv_head * G + row % G) * a.D;
    for (int64_t i = 0; i < a.D; ++i) tile.q[i * kTileRows + r] = q[i] * a.scale;
    tile.position[r] = static_cast<float>(a.pos + t);
    tile.maximum[r] = kMasked;
    tile.sum[r] = 0;
  }
  for (int64_t i = 0; i < a.D; ++i) {
    for (int u = 0; u < tile.vectors; ++u) store(tile.o + i * kTileRows + u * kWidth, vf{});
  }
}

static void store_outputs(const Tile& tile, int64_t kv_head, int64_t t0) {
  const AttentionArgs& a = tile.args;
  const int64_t G = a.Hq / a.Hkv;
  for (int64_t r = 0; r < tile.rows; ++r) {
    float* out = a.out + ((t0 + r / G) * a.Hq + kv_head * G + r % G) * a.D;
    const float inverse = 1.0f / tile.sum[r];
    for (int64_t i = 0; i < a.D; ++i) out[i] = tile.o[i * kTileRows + r] * inverse;
  }
}

// Hides keys that a row may not see. Only tiles on the diagonal or on the window's edge come here.
static void mask_scores(const Tile& tile, const KeyTile& keys) {
  const float window = tile.args.window > 0 ? static_cast<float>(tile.args.window) : 3e38f;
  for (int64_t j = 0; j < keys.count; ++j) {
    const vf key = splat(static_cast<float>(keys.first_pos + j));
    for (int u = 0; u < tile.vectors; ++u) {
      float* s = tile.s + j * kTileRows + u * kWidth;
      const vf distance = load(tile.position + u * kWidth) - key;
      const vi seen = (distance >= splat(0.0f)) & (distance < splat(window));
      store(s, seen ? load(s) : splat(kMasked));
    }
  }
}

// Scores become exponentials; what was summed under an older maximum is scaled down.
// A row that saw only masked keys so far holds rubbish under the maximum kMasked; its first seen key scales it to 0.
static void softmax_update(const Tile& tile, int64_t num_keys, int u) {
  float* s = tile.s + u * kWidth;
  const vf before = load(tile.maximum + u * kWidth);
  vf maximum = before;
  for (int64_t j = 0; j < num_keys; ++j) maximum = vmax(maximum, load(s + j * kTileRows));
  const vf correction = exp_nonpositive(before - maximum);
  vf sum = load(tile.sum + u * kWidth) * correction;
  for (int64_t j = 0; j < num_keys; ++j) {
    const vf p = exp_nonpositive(load(s + j * kTileRows) - maximum);
    store(s + j * kTileRows, p);
    sum = sum + p;
  }
  store(tile.maximum + u * kWidth, maximum);
  store(tile.sum + u * kWidth, sum);
  for (int64_t i = 0; i < tile.args.D; ++i) {
    float* o = tile.o + i * kTileRows + u * kWidth;
    store(o, load(o) * correction);
  }
}

static KeyTile load_keys(const Tile& tile, const KeySegment& segment, int64_t kv_head, int64_t first, int64_t count) {
  const int64_t D = tile.args.D, offset = kv_head * segment.head_stride + first * segment.row_stride;
  const int64_t first_pos = segment.first_pos + first;
  if (segment.dtype == CacheDtype::kFp32) {
    return {static_cast<const float*>(segment.k) + offset, static_cast<const float*>(segment.v) + offset,
            segment.row_stride, first_pos, count};
  }
  const uint16_t* k = static_cast<const uint16_t*>(segment.k) + offset;
  const uint16_t* v = static_cast<const uint16_t*>(segment.v) + offset;
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t i = 0; i < D; i += kWidth) {
      store(tile.k + j * D + i, load_half(k + j * segment.row_stride + i));
      store(tile.v + j * D + i, load_half(v + j * segment.row_stride + i));
    }
  }
  return {tile.k, tile.v, D, first_pos, count};
}

static void attend_keys(const Tile& tile, const KeyTile& keys, bool masked) {
  const int64_t D = tile.args.D;
  multiply_all<false>(keys.k, keys.stride, 1, tile.q, tile.s, keys.count, D, tile.vectors);
  if (masked) mask_scores(tile, keys);
  for (int u = 0; u < tile.vectors; ++u) softmax_update(tile, keys.count, u);
  multiply_all<true>(keys.v, 1, keys.stride, tile.s, tile.o, D, keys.count, tile.vectors);
}

// Positions that some row of the tile sees: [oldest, newest]; all rows see [all_from, all_to].
struct Sight {
  int64_t oldest, newest, all_from, all_to;
};

static Sight tile_sight(const AttentionArgs& a, int64_t t0, int64_t t1) {
  const int64_t first = a.pos + t0, last = a.pos + t1 - 1;
  if (a.window <= 0) return {0, last, 0, first};
  const int64_t oldest = first - a.window + 1;
  return {oldest < 0 ? 0 : oldest, last, last - a.window + 1, first};
}

static void attend_segment(const Tile& tile, const KeySegment& segment, int64_t kv_head, const Sight& sight) {
  int64_t first = sight.oldest - segment.first_pos;
  int64_t last = sight.newest - segment.first_pos + 1;
  first = first < 0 ? 0 : first;
  last = last > segment.count ? segment.count : last;
  for (int64_t j = first; j < last; j += kTileKeys) {
    const int64_t count = last - j < kTileKeys ? last - j : kTileKeys;
    const KeyTile keys = load_keys(tile, segment, kv_head, j, count);
    const bool all_seen = keys.first_pos >= sight.all_from && keys.first_pos + count - 1 <= sight.all_to;
    attend_keys(tile, keys, !all_seen);
  }
}

}  // namespace HILNAS_ISA

void HILNAS_VARIANT(attention_tile)(const AttentionArgs& args, const KeySegments& keys, int64_t kv_head, int64_t t0,
                                    int64_t t1, float* scratch) {
  using namespace HILNAS_ISA;
  const Tile tile = make_tile(args, (t1 - t0) * (args.Hq / args.Hkv), scratch);
  load_queries(tile, kv_head, t0);
  const Sight sight = tile_sight(args, t0, t1);
  for (int i = 0; i < keys.count; ++i) attend_segment(tile, keys.items[i], kv_head, sight);
  store_outputs(tile, kv_head, t0);
}

}  // namespace hilnas
