#pragma once

#include "runner/chain.h"
#include "runner/events.h"

namespace hilnas {

struct CheckResult {
  EventJson fields;
  bool passed = false;
};

// Runs the plan's check from an empty context and compares the probed logits with the expected ones.
Outcome<CheckResult> run_check(const CheckSpec& spec, Chain& chain);

}  // namespace hilnas
