// Typed access to a JSON object that remembers the path, so that every complaint names its field.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace hilnas {

using Json = nlohmann::json;

// Internal to plan parsing: parse_plan turns it into Outcome.
struct PlanFault {
  std::string message;
};

class PlanReader {
 public:
  PlanReader(const Json& object, std::string path);

  bool has(const char* key) const;
  PlanReader object(const char* key) const;
  std::vector<PlanReader> objects(const char* key) const;

  std::string text(const char* key) const;
  std::string text_or(const char* key, std::string fallback) const;
  std::string one_of(const char* key, std::initializer_list<const char*> allowed, const char* fallback) const;
  bool flag_or(const char* key, bool fallback) const;
  int64_t integer(const char* key, int64_t smallest) const;
  int64_t integer_or(const char* key, int64_t smallest, int64_t fallback) const;
  std::optional<int64_t> optional_integer(const char* key, int64_t smallest) const;
  std::optional<double> number(const char* key) const;
  std::vector<int64_t> integers_or_empty(const char* key, int64_t smallest) const;
  std::vector<std::vector<float>> float_rows(const char* key) const;

  [[noreturn]] void fail(const char* key, const std::string& expected) const;

 private:
  const Json& at(const char* key, const std::string& expected) const;
  const Json& object_;
  std::string path_;
};

}  // namespace hilnas
