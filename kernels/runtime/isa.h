// Which vector variant of an operator runs on this machine.
#pragma once

namespace hilnas {

enum class Isa { kScalar, kAvx2, kAvx512, kNeon };

const char* isa_name(Isa isa);

// Built into this binary and supported by this CPU.
bool isa_available(Isa isa);

// The widest available one; decided once. force_isa is for tests and for `--isa`.
Isa active_isa();
void force_isa(Isa isa);

}  // namespace hilnas

// Declares `name` in every variant that this build holds. Vector files define theirs with HILNAS_VARIANT.
#if defined(HILNAS_HAS_AVX2) && defined(HILNAS_HAS_AVX512)
#define HILNAS_DECLARE_VARIANTS(ret, name, ...) \
  ret name##__scalar(__VA_ARGS__);              \
  ret name##__avx2(__VA_ARGS__);                \
  ret name##__avx512(__VA_ARGS__)
#define HILNAS_SELECT(isa, name) \
  ((isa) == ::hilnas::Isa::kAvx512 ? name##__avx512 : (isa) == ::hilnas::Isa::kAvx2 ? name##__avx2 : name##__scalar)
#elif defined(HILNAS_HAS_NEON)
#define HILNAS_DECLARE_VARIANTS(ret, name, ...) \
  ret name##__scalar(__VA_ARGS__);              \
  ret name##__neon(__VA_ARGS__)
#define HILNAS_SELECT(isa, name) ((isa) == ::hilnas::Isa::kNeon ? name##__neon : name##__scalar)
#else
#define HILNAS_DECLARE_VARIANTS(ret, name, ...) ret name##__scalar(__VA_ARGS__)
#define HILNAS_SELECT(isa, name) (static_cast<void>(isa), name##__scalar)
#endif
