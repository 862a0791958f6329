#include "runtime/isa.h"

#include <atomic>
#include <initializer_list>

namespace hilnas {
namespace {

// AVX-512 first: Zen 4/5 and Ice Lake onward gain from it; older parts that down-clock are not phones or laptops.
Isa widest() {
  for (Isa isa : {Isa::kAvx512, Isa::kAvx2, Isa::kNeon}) {
    if (isa_available(isa)) return isa;
  }
  return Isa::kScalar;
}

std::atomic<int>& forced() {
  static std::atomic<int> value{-1};
  return value;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kNeon: return "neon";
    case Isa::kScalar: break;
  }
  return "scalar";
}

bool isa_available(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return true;
#ifdef HILNAS_HAS_AVX2
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
#ifdef HILNAS_HAS_AVX512
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#endif
#ifdef HILNAS_HAS_NEON
    case Isa::kNeon: return true;  // part of the aarch64 base
#endif
    default: return false;
  }
}

Isa active_isa() {
  static const Isa best = widest();
  const int chosen = forced().load(std::memory_order_relaxed);
  return chosen < 0 ? best : static_cast<Isa>(chosen);
}

void force_isa(Isa isa) { forced().store(static_cast<int>(isa), std::memory_order_relaxed); }

}  // namespace hilnas
