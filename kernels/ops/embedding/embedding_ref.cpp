#include "ops/embedding/embedding.h"

namespace hilnas {

void embedding_4bit__scalar(const Embedding4Args& a, int64_t first, int64_t last) {
  for (int64_t t = first; t < last; ++t) {
    const uint8_t* row = a.packed + a.ids[t] * (a.d / 2);
    const float* scales = a.scales + a.ids[t] * (a.d / a.group_size);
    for (int64_t c = 0; c < a.d; ++c) {
      const int nibble = c % 2 == 0 ? row[c / 2] & 15 : row[c / 2] >> 4;
      a.out[t * a.d + c] = static_cast<float>(nibble - 8) * scales[c / a.group_size];
    }
  }
}

void embedding_8bit__scalar(const Embedding8Args& a, int64_t first, int64_t last) {
  for (int64_t t = first; t < last; ++t) {
    for (int64_t c = 0; c < a.d; ++c) {
      a.out[t * a.d + c] = static_cast<float>(a.rows[a.ids[t] * a.d + c]) * a.scales[a.ids[t]];
    }
  }
}

}  // namespace hilnas
