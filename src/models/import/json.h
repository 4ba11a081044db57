// JSON from files that nobody vouches for, and places in it.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tomoserve::models::importer {

// Keeps the order of keys: nnU-Net's heads follow it.
using Json = nlohmann::ordered_json;

// Where a value stands. Text() is "preprocessing.transforms[3].keys".
struct Place {
  std::vector<std::string> keys;

  Place Child(std::string_view key) const;
  Place Child(std::size_t index) const;
  std::string Text() const;
};

// Strict JSON of at most 64 levels, with at most 10,000 members in an object, 100,000 in all, and keys of at
// most 256 bytes. Error: IMPORT_INVALID with the file's name.
absl::StatusOr<Json> ParseJson(std::string_view text, std::string_view file);

// A value as a short text for messages: at most 60 bytes, plain UTF-8.
std::string Short(const Json& value);

// Plain UTF-8 of one line, at most `longest` bytes, without blanks at its ends.
std::string OneLine(std::string_view text, std::size_t longest);

// The first place where two values differ, if there is one.
std::optional<Place> FirstDifference(const Json& a, const Json& b, const Place& place);

}  // namespace tomoserve::models::importer
