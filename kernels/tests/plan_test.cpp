// Complaints about a plan name the field, what it held and what would work.
#include "runner/plan.h"

#include <nlohmann/json.hpp>

#include "tests/check.h"

using namespace hilnas;
using Json = nlohmann::json;

static Json good_plan() {
  const std::string digest(64, 'a');
  return {{"version", 1},
          {"id", "p"},
          {"blocks_dir", "."},
          {"hidden_size", 8},
          {"vocab_size", 10},
          {"max_chunk", 4},
          {"cache", {{"capacity", 32}}},
          {"tokens", {1, 2}},
          {"chain", Json::array({{{"block", digest}, {"role", "embedding"}},
                                 {{"block", digest},
                                  {"role", "mixer"},
                                  {"states", Json::array({{{"kind", "conv"}, {"channels", 8}, {"taps", 2}}})}},
                                 {{"block", digest}, {"role", "head"}}})},
          {"protocol", {{"threads", 1}, {"prefill_lengths", {8}}, {"decode_contexts", {8}}}}};
}

static std::string complaint(const Json& plan) {
  std::string id;
  const Outcome<Plan> parsed = parse_plan(plan.dump(), &id);
  return parsed.ok() ? "" : parsed.error().message;
}

static void refused(const char* pointer, const Json& value, const std::string& expected) {
  Json plan = good_plan();
  plan[Json::json_pointer(pointer)] = value;
  const std::string words = complaint(plan);
  CHECK(words.find(expected) != std::string::npos, std::string(pointer) + " gave \"" + words + "\"");
}

int main() {
  CHECK(complaint(good_plan()).empty(), complaint(good_plan()));
  refused("/version", 2, "plan.version: expected version 1, got 2");
  refused("/chain/0/block", "xyz", "plan.chain[0].block: expected a sha256");
  refused("/chain/1/role", "attention", "expected one of embedding mixer ffn head model, got \"attention\"");
  refused("/chain/1/states/0/kind", "kvs", "plan.chain[1].states[0].kind");
  refused("/chain/2/role", "ffn", "embedding first and head last");
  refused("/chain/0/role", "head", "a head only as the last step");
  refused("/chain", Json::array(), "at least one step");
  refused("/cache/capacity", "many", "plan.cache.capacity: expected a whole number of at least 1, got \"many\"");
  refused("/cache/dtype", "bf16", "fp32 fp16 int8");
  refused("/protocol/threads", 0, "plan.protocol.threads");
  refused("/protocol/prefill_lengths", {64}, "within cache.capacity 32");
  refused("/protocol/decode_contexts", {20}, "context + decode_tokens within cache.capacity 32");
  refused("/tokens", {10}, "ids below vocab_size 10");
  refused("/check", {{"tokens", {1}}, {"chunks", {2}}}, "plan.check.chunks");
  refused("/check", {{"tokens", {1}}, {"chunks", {1}}, {"expected", Json::array()}}, "one row for each chunk");
  std::string id;
  CHECK(parse_plan("{", &id).error().message.find("not valid JSON") != std::string::npos, "broken JSON");
  CHECK(parse_plan("[]", &id).error().message.find("expected an object") != std::string::npos, "a list");
  Json plan = good_plan();
  plan["version"] = 9;
  CHECK(!parse_plan(plan.dump(), &id).ok() && id == "p", "the id is known even when the plan is refused");
  return hilnas::test::finish();
}
