#include "runtime/op_time.h"

namespace hilnas {
namespace {

OpTime* first = nullptr;

}  // namespace

OpTime::OpTime(const char* name) : name_(name), next_(first) { first = this; }

void clear_op_times() {
  for (OpTime* op = first; op != nullptr; op = op->next_) op->ns_ = op->calls_ = 0;
}

std::map<std::string, int64_t> op_times() {
  std::map<std::string, int64_t> times;
  for (const OpTime* op = first; op != nullptr; op = op->next_) {
    if (op->calls_ > 0) times[op->name_] += op->ns_;
  }
  return times;
}

}  // namespace hilnas
