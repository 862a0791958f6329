// Time inside our own operators, by name. What a forward pass takes beyond it is XNNPACK's, other kernels' and
// ExecuTorch's dispatch, so this tells what is delegated by time, not by number of nodes.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "runtime/clock.h"

namespace hilnas {

// One per operator, static in its kernel: the first call enters it into the list that op_times() reads. Not
// synchronised: programs run one at a time on one thread, and what an operator's pool threads do is inside its call.
class OpTime {
 public:
  explicit OpTime(const char* name);
  void add(int64_t ns) {
    ns_ += ns;
    ++calls_;
  }

 private:
  friend void clear_op_times();
  friend std::map<std::string, int64_t> op_times();
  const char* name_;
  OpTime* next_;
  int64_t ns_ = 0, calls_ = 0;
};

// Counts from here to the end of the scope, failed calls included.
class OpTimer {
 public:
  explicit OpTimer(OpTime& time) : time_(time), start_ns_(monotonic_ns()) {}
  ~OpTimer() { time_.add(monotonic_ns() - start_ns_); }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

 private:
  OpTime& time_;
  int64_t start_ns_;
};

void clear_op_times();
// Nanoseconds since the last clear; operators that were not called are absent.
std::map<std::string, int64_t> op_times();

}  // namespace hilnas
