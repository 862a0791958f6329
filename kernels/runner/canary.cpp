#include "runner/canary.h"

#include "runtime/clock.h"

namespace hilnas {

Outcome<std::unique_ptr<Canary>> Canary::load(const CanarySpec& spec, LoadContext& context) {
  auto chain = Chain::load(spec.chain, context);
  if (!chain.ok()) return RunError{chain.error().code, "canary: " + chain.error().message};
  auto canary = std::make_unique<Canary>();
  canary->chain_ = std::move(chain.value());
  canary->ids_.assign(static_cast<size_t>(spec.length), 0);
  return canary;
}

Outcome<int64_t> Canary::run() {
  chain_->reset();
  const int64_t start = monotonic_ns();
  if (RunStatus ran = chain_->forward_chunks(ids_.data(), static_cast<int64_t>(ids_.size())); !ran.ok()) return ran.error();
  return monotonic_ns() - start;
}

}  // namespace hilnas
