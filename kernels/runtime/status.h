// Result types of the operators' side. Messages are for people: they name what was given and what would work.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace hilnas {

class Status {
 public:
  enum class Kind { kOk, kInvalid, kOutOfMemory };

  Status() = default;
  static Status success() { return {}; }
  static Status failure(std::string message) { return {Kind::kInvalid, std::move(message)}; }
  static Status out_of_memory(std::string message) { return {Kind::kOutOfMemory, std::move(message)}; }

  bool ok() const { return kind_ == Kind::kOk; }
  Kind kind() const { return kind_; }
  const std::string& message() const { return message_; }

 private:
  Status(Kind kind, std::string message) : kind_(kind), message_(std::move(message)) {}
  Kind kind_ = Kind::kOk;
  std::string message_;
};

template <typename T>
class Result {
 public:
  Result(T value) : content_(std::move(value)) {}
  Result(Status failure) : content_(std::move(failure)) {}
  bool ok() const { return std::holds_alternative<T>(content_); }
  const T& value() const { return std::get<T>(content_); }
  T& value() { return std::get<T>(content_); }
  const std::string& message() const { return std::get<Status>(content_).message(); }
  Status status() const { return ok() ? Status::success() : std::get<Status>(content_); }

 private:
  std::variant<T, Status> content_;
};

}  // namespace hilnas
