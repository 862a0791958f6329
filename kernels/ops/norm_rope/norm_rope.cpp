#include "ops/norm_rope/norm_rope.h"

#include <algorithm>
#include <atomic>

#include "runtime/scratch.h"
#include "runtime/threads.h"

namespace hilnas {
namespace {

using Kernel = decltype(&norm_rope_f32__scalar);

// The widest variant whose vectors divide D / 2: D = 80 takes AVX2 (half of 40) on an AVX-512 machine.
Kernel select(Isa isa, int64_t D) {
#ifdef HILNAS_HAS_AVX2
  if (isa == Isa::kAvx512 && D % 32 != 0) return norm_rope_f32__avx2;
#else
  static_cast<void>(D);
#endif
  return HILNAS_SELECT(isa, norm_rope_f32);
}

}  // namespace

bool norm_rope_f32(const NormRopeArgs& args) {
  const Kernel kernel = select(active_isa(), args.D);
  const int64_t per_task = std::max<int64_t>(1, 16384 / (args.H * args.D));  // see rms_norm.cpp
  std::atomic<bool> enough_memory{true};
  parallel_tasks((args.T + per_task - 1) / per_task, [&](int64_t i) {
    float* scratch = scratch_floats(ScratchUse::kTask, static_cast<size_t>(2 * args.D));
    if (scratch == nullptr) return enough_memory.store(false);
    kernel(args, i * per_task, std::min(args.T, (i + 1) * per_task), scratch);
  });
  return enough_memory;
}

}  // namespace hilnas
