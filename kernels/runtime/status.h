// Result types of the operators' side. Words are for people: they name what was given and what would work.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace hilnas {

struct Status {
  std::string words;  // empty means success
  bool ok() const { return words.empty(); }
  static Status success() { return {}; }
  static Status failure(std::string why) { return {std::move(why)}; }
};

template <typename T>
class Result {
 public:
  Result(T value) : content_(std::move(value)) {}
  Result(Status failure) : content_(std::move(failure)) {}
  bool ok() const { return std::holds_alternative<T>(content_); }
  const T& value() const { return std::get<T>(content_); }
  T& value() { return std::get<T>(content_); }
  const std::string& words() const { return std::get<Status>(content_).words; }
  Status status() const { return ok() ? Status::success() : std::get<Status>(content_); }

 private:
  std::variant<T, Status> content_;
};

}  // namespace hilnas
