// What to run: the parsed and checked form of a plan file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runner/errors.h"
#include "runtime/states/kinds.h"

namespace hilnas {

enum class Role { kEmbedding, kMixer, kFfn, kHead, kModel };

struct StateSpec {
  const StateKind* kind = nullptr;
  std::vector<int64_t> sizes;  // those of kind->fields, in their order
};

struct StepSpec {
  std::string digest;  // 64 hex digits; the file is <digest>.pte
  Role role = Role::kFfn;
  std::string name;
  std::vector<StateSpec> states;
};

struct ChainSpec {
  std::vector<StepSpec> steps;
  CacheSettings cache;
  int64_t hidden_size = 0;
  int64_t vocab_size = 0;
  int64_t max_chunk = 512;
};

struct CheckSpec {
  std::vector<int64_t> tokens;
  std::vector<int64_t> chunks;
  std::vector<int64_t> probe_ids;
  std::vector<std::vector<float>> expected;  // [chunks][probe_ids]
  std::vector<int64_t> expected_argmax;
  std::optional<double> max_abs_error, min_sqnr_db, min_token_agreement;
};

struct CanarySpec {
  ChainSpec chain;
  int64_t length = 0;
};

// The first tokens of the prompt: their states are saved, or restored and followed by `suffix` more tokens.
struct PrefixSpec {
  bool save = false;
  std::string path;    // a relative one lies in blocks_dir
  int64_t length = 0;  // save
  int64_t suffix = 1;  // restore
};

struct Protocol {
  int64_t threads = 1;
  std::vector<int> affinity;
  int64_t warmup = 0, repetitions = 1;
  int64_t decode_repetitions = 1;
  // Given: decode warms up by this many tokens within each repetition, not by whole repetitions.
  std::optional<int64_t> decode_warmup_tokens;
  uint64_t seed = 0;
  std::vector<int64_t> prefill_lengths, decode_contexts;
  int64_t decode_tokens = 0;
  bool enter_with_noise = true;
  bool block_times = true;
  bool memory = false;
  int64_t memory_limit_bytes = 0;
};

struct Plan {
  std::string id;
  std::string blocks_dir;
  bool verify_digests = true;
  ChainSpec chain;
  Protocol protocol;
  std::vector<int64_t> tokens;
  std::optional<CheckSpec> check;
  std::optional<CanarySpec> canary;
  std::optional<PrefixSpec> prefix;
};

// bad_plan names the field, what it held and what would work. On failure `id` holds the plan's id if it was readable.
Outcome<Plan> parse_plan(const std::string& text, std::string* id);

// The file's content, or stdin for "-".
Outcome<std::string> read_plan_text(const std::string& path);

}  // namespace hilnas
