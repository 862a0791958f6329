#include "runner/check.h"

#include <algorithm>
#include <cmath>

namespace hilnas {
namespace {

struct Comparison {
  double max_abs_error = 0;
  double signal = 0, noise = 0;
  int64_t agreeing = 0;
  bool finite = true;
};

void compare_row(const std::vector<float>& expected, const std::vector<float>& got, Comparison* c) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = static_cast<double>(got[i]) - expected[i];
    c->finite = c->finite && std::isfinite(error);
    c->max_abs_error = std::max(c->max_abs_error, std::fabs(error));
    c->signal += static_cast<double>(expected[i]) * expected[i];
    c->noise += error * error;
  }
}

std::vector<float> probe(const CheckSpec& spec, const Chain& chain) {
  std::vector<float> values;
  for (int64_t id : spec.probe_ids) values.push_back(chain.logits()[id]);
  return values;
}

// A threshold that the plan does not set is not tested; equal outputs have no SQNR and pass it.
bool within(const CheckSpec& spec, const Comparison& c, double sqnr_db, double agreement) {
  if (!c.finite) return false;
  if (spec.max_abs_error && c.max_abs_error > *spec.max_abs_error) return false;
  if (spec.min_sqnr_db && c.noise > 0 && sqnr_db < *spec.min_sqnr_db) return false;
  return !spec.min_token_agreement || agreement >= *spec.min_token_agreement;
}

}  // namespace

Outcome<CheckResult> run_check(const CheckSpec& spec, Chain& chain) {
  Comparison c;
  EventJson rows = EventJson::array(), argmax = EventJson::array();
  const int64_t* ids = spec.tokens.data();
  chain.reset();
  for (size_t i = 0; i < spec.chunks.size(); ++i) {
    if (RunStatus ran = chain.forward(ids, spec.chunks[i], true); !ran.ok()) return ran.error();
    ids += spec.chunks[i];
    const std::vector<float> got = probe(spec, chain);
    compare_row(spec.expected[i], got, &c);
    const int64_t top = chain.argmax();
    if (!spec.expected_argmax.empty()) c.agreeing += top == spec.expected_argmax[i];
    rows.push_back(got);
    argmax.push_back(top);
  }
  const double sqnr_db = c.noise > 0 && c.signal > 0 ? 10 * std::log10(c.signal / c.noise) : 0;
  const double agreement = static_cast<double>(c.agreeing) / static_cast<double>(spec.chunks.size());
  CheckResult result;
  result.passed = within(spec, c, sqnr_db, agreement);
  if (c.finite) result.fields["max_abs_error"] = c.max_abs_error;
  if (c.finite && c.noise > 0 && c.signal > 0) result.fields["sqnr_db"] = sqnr_db;
  if (!spec.expected_argmax.empty()) result.fields["token_agreement"] = agreement;
  result.fields["passed"] = result.passed;
  result.fields["logits"] = rows;
  result.fields["argmax"] = argmax;
  return result;
}

}  // namespace hilnas
