// A fixed small workload run before every repetition: if its time moves, the machine moved, not the candidate.
#pragma once

#include <memory>
#include <vector>

#include "runner/chain.h"

namespace hilnas {

class Canary {
 public:
  static Outcome<std::unique_ptr<Canary>> load(const CanarySpec& spec, LoadContext& context);
  // Nanoseconds of one pass from an empty context.
  Outcome<int64_t> run();

 private:
  std::unique_ptr<Chain> chain_;
  std::vector<int64_t> ids_;
};

}  // namespace hilnas
