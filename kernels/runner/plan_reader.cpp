#include "runner/plan_reader.h"

#include <algorithm>

namespace hilnas {
namespace {

std::string shortened(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

bool is_integer(const Json& value, int64_t smallest) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) return false;
  return value.get<int64_t>() >= smallest;
}

}  // namespace

PlanReader::PlanReader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object_.is_object()) throw PlanFault{path_ + ": expected an object, got " + shortened(object_)};
}

bool PlanReader::has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }

void PlanReader::fail(const char* key, const std::string& expected) const {
  const std::string got = has(key) ? ", got " + shortened(object_.at(key)) : ", but it is absent";
  throw PlanFault{path_ + "." + key + ": expected " + expected + got};
}

const Json& PlanReader::at(const char* key, const std::string& expected) const {
  if (!has(key)) fail(key, expected);
  return object_.at(key);
}

PlanReader PlanReader::object(const char* key) const { return {at(key, "an object"), path_ + "." + key}; }

std::vector<PlanReader> PlanReader::objects(const char* key) const {
  std::vector<PlanReader> readers;
  if (!has(key)) return readers;
  const Json& list = object_.at(key);
  if (!list.is_array()) fail(key, "a list of objects");
  for (size_t i = 0; i < list.size(); ++i) {
    readers.emplace_back(list[i], path_ + "." + key + "[" + std::to_string(i) + "]");
  }
  return readers;
}

std::string PlanReader::text(const char* key) const {
  const Json& value = at(key, "text");
  if (!value.is_string()) fail(key, "text");
  return value.get<std::string>();
}

std::string PlanReader::text_or(const char* key, std::string fallback) const {
  return has(key) ? text(key) : std::move(fallback);
}

std::string PlanReader::one_of(const char* key, std::initializer_list<const char*> allowed,
                               const char* fallback) const {
  if (!has(key) && fallback != nullptr) return fallback;
  std::string expected = "one of";
  for (const char* choice : allowed) expected += std::string(" ") + choice;
  const Json& value = at(key, expected);
  for (const char* choice : allowed) {
    if (value.is_string() && value.get_ref<const std::string&>() == choice) return choice;
  }
  fail(key, expected);
}

bool PlanReader::flag_or(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  if (!object_.at(key).is_boolean()) fail(key, "true or false");
  return object_.at(key).get<bool>();
}

int64_t PlanReader::integer(const char* key, int64_t smallest) const {
  const std::string expected = "a whole number of at least " + std::to_string(smallest);
  const Json& value = at(key, expected);
  if (!is_integer(value, smallest)) fail(key, expected);
  return value.get<int64_t>();
}

int64_t PlanReader::integer_or(const char* key, int64_t smallest, int64_t fallback) const {
  return has(key) ? integer(key, smallest) : fallback;
}

std::optional<int64_t> PlanReader::optional_integer(const char* key, int64_t smallest) const {
  if (!has(key)) return std::nullopt;
  return integer(key, smallest);
}

std::optional<double> PlanReader::number(const char* key) const {
  if (!has(key)) return std::nullopt;
  if (!object_.at(key).is_number()) fail(key, "a number");
  return object_.at(key).get<double>();
}

std::vector<int64_t> PlanReader::integers_or_empty(const char* key, int64_t smallest) const {
  if (!has(key)) return {};
  const Json& list = object_.at(key);
  const std::string expected = "a list of whole numbers of at least " + std::to_string(smallest);
  if (!list.is_array()) fail(key, expected);
  std::vector<int64_t> values;
  for (const Json& item : list) {
    if (!is_integer(item, smallest)) fail(key, expected);
    values.push_back(item.get<int64_t>());
  }
  return values;
}

std::vector<std::vector<float>> PlanReader::float_rows(const char* key) const {
  if (!has(key)) return {};
  std::vector<std::vector<float>> rows;
  const Json& list = object_.at(key);
  const bool sound =
      list.is_array() && std::all_of(list.begin(), list.end(), [](const Json& row) {
        return row.is_array() && std::all_of(row.begin(), row.end(), [](const Json& x) { return x.is_number(); });
      });
  if (!sound) fail(key, "a list of lists of numbers");
  for (const Json& row : list) rows.push_back(row.get<std::vector<float>>());
  return rows;
}

}  // namespace hilnas
