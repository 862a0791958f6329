// Complaints about a plan name the field, what it held and what would work.
#include "runner/plan.h"

#include <algorithm>
#include <cctype>
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
  const std::string message = complaint(plan);
  CHECK(message.find(expected) != std::string::npos, std::string(pointer) + " gave \"" + message + "\"");
}

// "/check/chunks" is "plan.check.chunks" in message; an index is written [0].
static std::string field_name(const std::string& pointer) {
  std::string message = "plan";
  for (size_t at = 0; at < pointer.size();) {
    const size_t end = std::min(pointer.find('/', at + 1), pointer.size());
    const std::string part = pointer.substr(at + 1, end - at - 1);
    message += std::isdigit(static_cast<unsigned char>(part[0])) ? "[" + part + "]" : "." + part;
    at = end;
  }
  return message + ": expected";
}

static void wrong_types() {
  const char* texts[] = {"/id",
                         "/blocks_dir",
                         "/chain/0/block",
                         "/chain/0/role",
                         "/chain/0/name",
                         "/chain/1/states/0/kind",
                         "/cache/dtype",
                         "/protocol/enter_context"};
  for (const char* field : texts) refused(field, 7, field_name(field));
  const char* others[] = {"/version",
                          "/verify_digests",
                          "/chain",
                          "/chain/0",
                          "/chain/1/states",
                          "/chain/1/states/0",
                          "/chain/1/states/0/channels",
                          "/chain/1/states/0/taps",
                          "/cache",
                          "/cache/capacity",
                          "/hidden_size",
                          "/vocab_size",
                          "/max_chunk",
                          "/tokens",
                          "/check",
                          "/canary",
                          "/protocol",
                          "/protocol/threads",
                          "/protocol/affinity",
                          "/protocol/warmup",
                          "/protocol/repetitions",
                          "/protocol/decode_repetitions",
                          "/protocol/decode_warmup_tokens",
                          "/protocol/seed",
                          "/protocol/prefill_lengths",
                          "/protocol/decode_contexts",
                          "/protocol/decode_tokens",
                          "/protocol/block_times",
                          "/protocol/memory",
                          "/protocol/memory_limit_bytes"};
  for (const char* field : others) refused(field, "seven", field_name(field));
  const char* of_check[] = {"tokens",          "chunks",        "probe_ids",   "expected",
                            "expected_argmax", "max_abs_error", "min_sqnr_db", "min_token_agreement"};
  for (const char* field : of_check) {
    Json check = {{"tokens", {1}}, {"chunks", {1}}, {"expected", {Json::array()}}};
    check[field] = "seven";
    refused("/check", check, field_name(std::string("/check/") + field));
  }
  for (const Json& fraction : {Json(1.5), Json(uint64_t{1} << 63), Json(-1), Json(true)}) {
    refused("/protocol/decode_tokens", fraction, "plan.protocol.decode_tokens: expected a whole number");
    refused("/tokens", {fraction}, "plan.tokens: expected a list of whole numbers");
  }
}

static Protocol protocol_with(const Json& fields) {
  Json plan = good_plan();
  plan["protocol"].update(fields);
  std::string id;
  const Outcome<Plan> parsed = parse_plan(plan.dump(), &id);
  CHECK(parsed.ok(), fields.dump());
  return parsed.ok() ? parsed.value().protocol : Protocol();
}

static void decode_fields() {
  const Protocol plain = protocol_with({{"repetitions", 5}});
  CHECK(plain.decode_repetitions == 5 && !plain.decode_warmup_tokens, "as prefill unless said");
  const Protocol own = protocol_with({{"repetitions", 5}, {"decode_repetitions", 2}, {"decode_warmup_tokens", 0}});
  CHECK(own.repetitions == 5 && own.decode_repetitions == 2 && own.decode_warmup_tokens == 0, "0 is not absent");
  CHECK(protocol_with({{"decode_warmup_tokens", 8}}).decode_warmup_tokens == 8, "8 + 8 + 16 tokens fit 32");
  refused("/protocol/decode_warmup_tokens", 9, "context + decode_warmup_tokens + decode_tokens within");
  refused("/protocol/decode_warmup_tokens", INT64_MAX, "plan.protocol.decode_contexts");
  refused("/protocol/decode_contexts", {INT64_MAX}, "plan.protocol.decode_contexts");
}

static void prefix_fields() {
  Json plan = good_plan();
  plan["prefix"] = {{"save", "a.prefix"}, {"length", 8}};
  std::string id;
  const Outcome<Plan> saving = parse_plan(plan.dump(), &id);
  CHECK(saving.ok() && saving.value().prefix && saving.value().prefix->save, "save");
  CHECK(saving.ok() && saving.value().prefix->path == "./a.prefix", "beside the blocks");
  plan["prefix"] = {{"restore", "a.prefix"}, {"suffix", 3}};
  const Outcome<Plan> restoring = parse_plan(plan.dump(), &id);
  CHECK(restoring.ok() && !restoring.value().prefix->save && restoring.value().prefix->suffix == 3, "restore");
  for (const char* path : {"/a.prefix", "../a.prefix", "a/b", ".a", "..", "-a", "a b", "a\\b", ""}) {
    refused("/prefix", {{"restore", path}}, "plan.prefix.restore: expected a file name");
    refused("/prefix", {{"save", path}, {"length", 8}}, "plan.prefix.save: expected a file name");
  }
  refused("/prefix", {{"save", std::string("a\0b", 3)}, {"length", 8}}, "plan.prefix.save: expected a file name");
  refused("/prefix", {{"save", std::string(101, 'a')}, {"length", 8}}, "plan.prefix.save: expected a file name");
  refused("/prefix", Json::object(), "plan.prefix.save: expected a file name, or one in restore");
  refused("/prefix", {{"save", "a"}, {"restore", "b"}, {"length", 1}}, "not both");
  refused("/prefix", {{"save", "a"}}, "plan.prefix.length: expected a whole number of at least 1, but it is absent");
  refused("/prefix", {{"save", "a"}, {"length", 33}}, "plan.prefix.length: expected a length within cache.capacity 32");
  refused("/prefix", {{"save", 7}, {"length", 8}}, "plan.prefix.save: expected text");
  refused("/prefix", {{"restore", "a"}, {"suffix", 0}}, "plan.prefix.suffix: expected a whole number of at least 1");
  refused("/prefix", "seven", "plan.prefix: expected an object");
}

static void unknown_keys_are_ignored() {
  Json plan = good_plan();
  for (const char* at : {"", "/protocol", "/cache", "/chain/0", "/chain/1/states/0"}) {
    plan[Json::json_pointer(at)]["comment"] = {1, 2};
  }
  CHECK(complaint(plan).empty(), complaint(plan));
}

int main() {
  CHECK(complaint(good_plan()).empty(), complaint(good_plan()));
  wrong_types();
  decode_fields();
  prefix_fields();
  unknown_keys_are_ignored();
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
  refused("/protocol/decode_contexts", {20}, "decode_tokens within cache.capacity 32");
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
