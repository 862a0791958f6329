#include "ops/embedding/embedding.h"
#include "runtime/simd.h"

namespace hilnas {
namespace HILNAS_ISA {

// kWidth columns from kWidth / 2 bytes. Each byte is widened to a pair of lanes; even lanes keep the low nibble.
static inline vf unpack_nibbles(const uint8_t* bytes) {
  int32_t pairs[kWidth];
  for (int i = 0; i < kWidth / 2; ++i) {
    pairs[2 * i] = bytes[i] & 15;
    pairs[2 * i + 1] = bytes[i] >> 4;
  }
  vi lanes;
  __builtin_memcpy(&lanes, pairs, sizeof(lanes));
  return __builtin_convertvector(lanes - splat_int(8), vf);
}

}  // namespace HILNAS_ISA

void HILNAS_VARIANT(embedding_4bit)(const Embedding4Args& a, int64_t first, int64_t last) {
  using namespace HILNAS_ISA;
  if (a.group_size % kWidth != 0) return embedding_4bit__scalar(a, first, last);
  for (int64_t t = first; t < last; ++t) {
    const uint8_t* row = a.packed + a.ids[t] * (a.d / 2);
    const float* scales = a.scales + a.ids[t] * (a.d / a.group_size);
    for (int64_t c = 0; c < a.d; c += kWidth) {
      store(a.out + t * a.d + c, unpack_nibbles(row + c / 2) * splat(scales[c / a.group_size]));
    }
  }
}

void HILNAS_VARIANT(embedding_8bit)(const Embedding8Args& a, int64_t first, int64_t last) {
  using namespace HILNAS_ISA;
  if (a.d % kWidth != 0) return embedding_8bit__scalar(a, first, last);
  for (int64_t t = first; t < last; ++t) {
    const int8_t* row = a.rows + a.ids[t] * a.d;
    const vf scale = splat(a.scales[a.ids[t]]);
    for (int64_t c = 0; c < a.d; c += kWidth) store(a.out + t * a.d + c, load_i8(row + c) * scale);
  }
}

}  // namespace hilnas
