// Embedding look-up from quantized rows, dequantized on the way: the table stays small in memory.
#pragma once

#include <cstdint>

#include "runtime/isa.h"

namespace hilnas {

// Value of column c: (nibble - 8) * scales[row][c / group_size]; the low nibble is the even column.
struct Embedding4Args {
  const int64_t* ids;     // [T], each in [0, V)
  const uint8_t* packed;  // [V][d / 2]
  const float* scales;    // [V][d / group_size]
  float* out;             // [T][d]
  int64_t T, d, group_size;
};

struct Embedding8Args {
  const int64_t* ids;   // [T]
  const int8_t* rows;   // [V][d]
  const float* scales;  // [V]
  float* out;           // [T][d]
  int64_t T, d;
};

HILNAS_DECLARE_VARIANTS(void, embedding_4bit, const Embedding4Args& args, int64_t first, int64_t last);
HILNAS_DECLARE_VARIANTS(void, embedding_8bit, const Embedding8Args& args, int64_t first, int64_t last);

void embedding_4bit(const Embedding4Args& args);
void embedding_8bit(const Embedding8Args& args);

}  // namespace hilnas
