#include "ops/gated_short_conv/gated_short_conv.h"

#include <algorithm>

#include "runtime/scratch.h"
#include "runtime/threads.h"

namespace hilnas {

void gated_short_conv_f32(const GatedShortConvArgs& args, float* history) {
  const auto kernel = HILNAS_SELECT(active_isa(), gated_short_conv_f32);
  // Ranges of tokens, not of channels: rows are read in one stream. Each range recomputes K-1 gated inputs and
  // transposes the weight, so ranges are kept long: at least 32 tokens.
  const int64_t per_task = std::max<int64_t>(32, (args.T + num_threads() - 1) / num_threads());
  parallel_tasks((args.T + per_task - 1) / per_task, [&](int64_t i) {
    float* scratch = scratch_floats(ScratchUse::kTask, static_cast<size_t>(gated_short_conv_scratch(args)));
    const int64_t last = std::min(args.T, (i + 1) * per_task);
    if (scratch == nullptr) return gated_short_conv_f32__scalar(args, i * per_task, last, nullptr);
    kernel(args, i * per_task, last, scratch);
  });
  advance_history(args, history);
}

}  // namespace hilnas
