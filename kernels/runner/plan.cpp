#include "runner/plan.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "runner/plan_reader.h"

namespace hilnas {
namespace {

constexpr int64_t kVersion = 1;

StateSpec read_state(const PlanReader& reader) {
  StateSpec state;
  state.kind = find_state_kind(reader.text("kind"));
  if (state.kind == nullptr) {
    std::string expected = "one of";
    for (const StateKind& kind : state_kinds()) expected += std::string(" ") + kind.name;
    reader.fail("kind", expected);
  }
  for (const SizeField& field : state.kind->fields) {
    state.sizes.push_back(field.fallback < 0 ? reader.integer(field.name, field.smallest)
                                             : reader.integer_or(field.name, field.smallest, field.fallback));
  }
  return state;
}

Role read_role(const PlanReader& reader) {
  const std::string role = reader.one_of("role", {"embedding", "mixer", "ffn", "head", "model"}, nullptr);
  if (role == "embedding") return Role::kEmbedding;
  if (role == "mixer") return Role::kMixer;
  if (role == "ffn") return Role::kFfn;
  return role == "head" ? Role::kHead : Role::kModel;
}

StepSpec read_step(const PlanReader& reader) {
  StepSpec step;
  step.digest = reader.text("block");
  const bool hex = std::all_of(step.digest.begin(), step.digest.end(),
                               [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (step.digest.size() != 64 || !hex) reader.fail("block", "a sha256 of 64 lower-case hex digits");
  step.role = read_role(reader);
  step.name = reader.text_or("name", "");
  for (const PlanReader& state : reader.objects("states")) step.states.push_back(read_state(state));
  if (!step.states.empty() && step.role != Role::kMixer && step.role != Role::kModel) {
    reader.fail("states", "no states: only a mixer or a model keeps any");
  }
  return step;
}

CacheSettings read_cache(const PlanReader& reader) {
  CacheSettings cache;
  const std::string dtype = reader.one_of("dtype", {"fp32", "fp16", "int8"}, "fp32");
  cache.dtype = dtype == "fp16" ? CacheDtype::kFp16 : dtype == "int8" ? CacheDtype::kInt8 : CacheDtype::kFp32;
  cache.capacity = reader.integer("capacity", 1);
  return cache;
}

// A canary may start with a mixer and needs no head; the plan itself must turn tokens into logits.
void check_order(const PlanReader& reader, const std::vector<StepSpec>& steps, bool complete) {
  if (steps.empty()) reader.fail("chain", "at least one step");
  for (size_t i = 0; i < steps.size(); ++i) {
    const Role role = steps[i].role;
    if (role == Role::kModel && steps.size() > 1) reader.fail("chain", "a model step to be the only one");
    if (role == Role::kEmbedding && i != 0) reader.fail("chain", "an embedding only as the first step");
    if (role == Role::kHead && i + 1 != steps.size()) reader.fail("chain", "a head only as the last step");
  }
  const bool tokens_in = steps.front().role == Role::kEmbedding || steps.front().role == Role::kModel;
  const bool logits_out = steps.back().role == Role::kHead || steps.back().role == Role::kModel;
  if (complete && !(tokens_in && logits_out)) reader.fail("chain", "embedding first and head last, or one model");
}

ChainSpec read_chain(const PlanReader& reader, bool complete) {
  ChainSpec chain;
  for (const PlanReader& step : reader.objects("chain")) chain.steps.push_back(read_step(step));
  check_order(reader, chain.steps, complete);
  chain.cache = read_cache(reader.object("cache"));
  chain.hidden_size = reader.integer("hidden_size", 1);
  return chain;
}

Protocol read_protocol(const PlanReader& reader) {
  Protocol p;
  p.threads = reader.integer("threads", 1);
  if (p.threads > 256) reader.fail("threads", "at most 256 threads");
  for (int64_t cpu : reader.integers_or_empty("affinity", 0)) {
    if (cpu > INT_MAX) reader.fail("affinity", "core numbers");
    p.affinity.push_back(static_cast<int>(cpu));
  }
  p.warmup = reader.integer_or("warmup", 0, 1);
  p.repetitions = reader.integer_or("repetitions", 0, 1);
  p.decode_repetitions = reader.integer_or("decode_repetitions", 0, p.repetitions);
  p.decode_warmup_tokens = reader.optional_integer("decode_warmup_tokens", 0);
  p.seed = static_cast<uint64_t>(reader.integer_or("seed", 0, 0));
  p.prefill_lengths = reader.integers_or_empty("prefill_lengths", 1);
  p.decode_contexts = reader.integers_or_empty("decode_contexts", 0);
  p.decode_tokens = reader.integer_or("decode_tokens", 1, 16);
  p.enter_with_noise = reader.one_of("enter_context", {"noise", "prefill"}, "noise") == "noise";
  p.block_times = reader.flag_or("block_times", true);
  p.memory = reader.flag_or("memory", false);
  p.memory_limit_bytes = reader.integer_or("memory_limit_bytes", 0, 0);
  return p;
}

CheckSpec read_check(const PlanReader& reader) {
  CheckSpec c;
  c.tokens = reader.integers_or_empty("tokens", 0);
  c.chunks = reader.integers_or_empty("chunks", 1);
  c.probe_ids = reader.integers_or_empty("probe_ids", 0);
  c.expected = reader.float_rows("expected");
  c.expected_argmax = reader.integers_or_empty("expected_argmax", 0);
  c.max_abs_error = reader.number("max_abs_error");
  c.min_sqnr_db = reader.number("min_sqnr_db");
  c.min_token_agreement = reader.number("min_token_agreement");
  int64_t total = 0;
  for (int64_t chunk : c.chunks) total += chunk;
  if (total != static_cast<int64_t>(c.tokens.size()) || total == 0)
    reader.fail("chunks", "sizes that sum to the number of tokens");
  if (c.expected.size() != c.chunks.size()) reader.fail("expected", "one row for each chunk");
  for (const auto& row : c.expected) {
    if (row.size() != c.probe_ids.size()) reader.fail("expected", "rows as long as probe_ids");
  }
  if (!c.expected_argmax.empty() && c.expected_argmax.size() != c.chunks.size()) {
    reader.fail("expected_argmax", "one id for each chunk");
  }
  if (c.min_token_agreement && c.expected_argmax.empty())
    reader.fail("expected_argmax", "ids, because min_token_agreement is set");
  return c;
}

CanarySpec read_canary(const PlanReader& reader) {
  CanarySpec canary{read_chain(reader, false), reader.integer("length", 1)};
  canary.chain.vocab_size = reader.integer_or("vocab_size", 1, 0);
  if (canary.length > canary.chain.cache.capacity) reader.fail("length", "a length within cache.capacity");
  if (canary.chain.steps.back().role == Role::kHead && canary.chain.vocab_size == 0) {
    reader.fail("vocab_size", "the head's vocabulary");
  }
  return canary;
}

// A plan may come from elsewhere, so it names a file beside the blocks and never a path out of their folder.
bool is_file_name(const std::string& name) {
  const auto allowed = [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; };
  return !name.empty() && name.size() <= 100 && name[0] != '.' && name[0] != '-' &&
         std::all_of(name.begin(), name.end(), allowed);
}

PrefixSpec read_prefix(const PlanReader& reader, const std::string& blocks_dir) {
  PrefixSpec prefix;
  prefix.save = reader.has("save");
  if (prefix.save == reader.has("restore")) reader.fail("save", "a file name, or one in restore, not both");
  const char* field = prefix.save ? "save" : "restore";
  const std::string name = reader.text(field);
  if (!is_file_name(name)) reader.fail(field, "a file name without separators that starts with no dot");
  prefix.path = blocks_dir + "/" + name;
  if (prefix.save) prefix.length = reader.integer("length", 1);
  prefix.suffix = reader.integer_or("suffix", 1, 1);
  return prefix;
}

// How deep a context may be so that its decoded tokens still fit; negative when not even they do.
int64_t deepest_context(const Plan& plan) {
  int64_t room = plan.chain.cache.capacity;
  for (int64_t tokens : {plan.protocol.decode_tokens, plan.protocol.decode_warmup_tokens.value_or(0)}) {
    room = tokens > room ? -1 : room - tokens;
  }
  return room;
}

void check_room(const PlanReader& root, const Plan& plan) {
  const int64_t capacity = plan.chain.cache.capacity;
  const PlanReader protocol = root.object("protocol");
  for (int64_t length : plan.protocol.prefill_lengths) {
    if (length > capacity)
      protocol.fail("prefill_lengths", "lengths within cache.capacity " + std::to_string(capacity));
  }
  for (int64_t context : plan.protocol.decode_contexts) {
    if (context > deepest_context(plan)) {
      protocol.fail("decode_contexts",
                    "context + decode_warmup_tokens + decode_tokens within cache.capacity " + std::to_string(capacity));
    }
  }
  if (plan.prefix && plan.prefix->length > capacity) {
    root.object("prefix").fail("length", "a length within cache.capacity " + std::to_string(capacity));
  }
  if (plan.check && static_cast<int64_t>(plan.check->tokens.size()) > capacity) {
    root.fail("check", "no more tokens than cache.capacity " + std::to_string(capacity));
  }
}

void check_ids(const PlanReader& root, const Plan& plan) {
  const auto outside = [&](int64_t id) { return id >= plan.chain.vocab_size; };
  const std::string expected = "ids below vocab_size " + std::to_string(plan.chain.vocab_size);
  if (std::any_of(plan.tokens.begin(), plan.tokens.end(), outside)) root.fail("tokens", expected);
  if (!plan.check) return;
  for (const auto* ids : {&plan.check->tokens, &plan.check->probe_ids, &plan.check->expected_argmax}) {
    if (std::any_of(ids->begin(), ids->end(), outside)) root.fail("check", expected);
  }
  for (int64_t chunk : plan.check->chunks) {
    if (chunk > plan.chain.max_chunk) root.fail("check", "chunks of at most max_chunk tokens");
  }
}

Plan read_plan(const PlanReader& root) {
  if (root.integer("version", 1) != kVersion) root.fail("version", "version 1");
  Plan plan;
  plan.id = root.text_or("id", "");
  plan.blocks_dir = root.text("blocks_dir");
  plan.verify_digests = root.flag_or("verify_digests", true);
  plan.chain = read_chain(root, true);
  plan.chain.vocab_size = root.integer("vocab_size", 1);
  plan.chain.max_chunk = root.integer("max_chunk", 1);
  plan.protocol = read_protocol(root.object("protocol"));
  plan.tokens = root.integers_or_empty("tokens", 0);
  if (plan.tokens.empty()) plan.tokens.push_back(0);
  if (root.has("check")) plan.check = read_check(root.object("check"));
  if (root.has("canary")) plan.canary = read_canary(root.object("canary"));
  if (root.has("prefix")) plan.prefix = read_prefix(root.object("prefix"), plan.blocks_dir);
  if (plan.canary) plan.canary->chain.max_chunk = plan.chain.max_chunk;
  check_room(root, plan);
  check_ids(root, plan);
  return plan;
}

}  // namespace

Outcome<Plan> parse_plan(const std::string& text, std::string* id) {
  try {
    const Json root = Json::parse(text);
    if (root.is_object() && root.contains("id") && root["id"].is_string()) *id = root["id"].get<std::string>();
    return read_plan(PlanReader(root, "plan"));
  } catch (const PlanFault& fault) {
    return RunError{ExitCode::kBadPlan, fault.message};
  } catch (const Json::exception& error) {
    return RunError{ExitCode::kBadPlan, std::string("the plan is not valid JSON: ") + error.what()};
  }
}

Outcome<std::string> read_plan_text(const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (!file || !(content << file.rdbuf())) {
    return RunError{ExitCode::kBadPlan, "cannot read the plan " + path + ": " + std::strerror(errno)};
  }
  return content.str();
}

}  // namespace hilnas
