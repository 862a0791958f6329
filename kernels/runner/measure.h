// The protocol: prefill and decode repetitions, one event each. Raw times only; rates are derived by the reader.
#pragma once

#include "runner/canary.h"
#include "runner/chain.h"
#include "runner/events.h"

namespace hilnas {

class Measurement {
 public:
  Measurement(const Plan& plan, Chain& chain, Canary* canary, EventWriter& events)
      : plan_(plan), chain_(chain), canary_(canary), events_(events) {}

  RunStatus run();
  // Total of the repetitions that were no warm-up.
  int64_t measured_ns() const { return measured_ns_; }

 private:
  struct Case;
  struct Repetition;
  RunStatus run_phase(const Case& phase, int64_t warmup, int64_t repetitions);
  RunStatus save_prefix();
  RunStatus measure_prefix();
  Outcome<int64_t> compare_prefix();
  RunStatus run_first_token(const Case& phase, Repetition& repetition);
  RunStatus run_prefill(int64_t length, Repetition& repetition);
  RunStatus run_decode(int64_t context, Repetition& repetition);
  RunStatus enter_context(int64_t context);
  RunStatus decode_untimed(int64_t tokens, int64_t* id);
  void start_clocks(Repetition& repetition);
  RunStatus run_one(const Case& phase, int64_t index, bool warmup);
  RunStatus run_case(const Case& phase, Repetition& repetition);
  void memory(const std::string& at);

  const Plan& plan_;
  Chain& chain_;
  Canary* canary_;
  EventWriter& events_;
  int64_t measured_ns_ = 0;
};

}  // namespace hilnas
