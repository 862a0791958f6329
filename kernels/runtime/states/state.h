// What every kind of sequence state does for the table, the runner and prefix files. A kind is one file in this folder
// and one line in kinds.cpp; its counterpart in Python is search_space/states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/states/noise.h"
#include "runtime/status.h"

namespace hilnas {

constexpr int64_t kMaxStateElements = int64_t{1} << 40;

// One size of a state, as plans and prefix files name it.
struct StateSize {
  const char* name;
  int64_t value;
};

// Memory that a prefix file keeps.
struct StatePiece {
  char* data;
  size_t bytes;
};

class State {
 public:
  virtual ~State() = default;
  virtual const char* kind() const = 0;
  virtual std::vector<StateSize> sizes() const = 0;
  virtual size_t bytes() const = 0;
  // Empties the context.
  virtual void reset() = 0;
  // As if `context` tokens of noise had passed.
  virtual void fill_noise(int64_t context, Noise& noise) = 0;
  // What is worth keeping after `position` tokens.
  virtual std::vector<StatePiece> pieces(int64_t position) = 0;
};

}  // namespace hilnas
