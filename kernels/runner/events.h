// Events as JSON lines: one write() per line, so a line is complete or absent even when the process dies.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace hilnas {

using EventJson = nlohmann::ordered_json;

class EventWriter {
 public:
  // "" is stdout. open_message() says why a file cannot be opened.
  explicit EventWriter(const std::string& path);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  bool usable() const { return fd_ >= 0 && !failed_; }
  const std::string& message() const { return message_; }
  int fd() const { return fd_; }

  void set_plan_id(const std::string& id) { plan_id_ = id; }

  // {"event": name, "plan_id": ..., "t_ns": now, ...fields}. After a failed write this does nothing.
  void write(const char* event, const EventJson& fields = EventJson::object());

 private:
  void fail(const std::string& what);
  int fd_ = -1;
  bool owned_ = false;
  bool failed_ = false;
  std::string plan_id_;
  std::string message_;
};

}  // namespace hilnas
