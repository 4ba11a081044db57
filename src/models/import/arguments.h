// The arguments of one `_target_`: each is taken, and what nobody took is refused by name.
#pragma once

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/import/config.h"

namespace tomoserve::models::importer {

class Arguments {
 public:
  // `object` has a `_target_`. `positional`: names for the arguments of a call that have none.
  static absl::StatusOr<Arguments> Of(Config* config, const Located& object);
  static Arguments OfCall(const Config::Call& call, const Place& place,
                          std::initializer_list<std::string_view> positional);

  const Place& place() const { return place_; }
  const std::string& target() const { return target_; }
  std::string PathOf(std::string_view name) const { return place_.Child(name).Text(); }

  // The argument, if it is there and not null. A list of equal values (one for each key) counts as that value
  // in the typed readers. Errors: IMPORT_UNSUPPORTED where the value is of another type.
  std::optional<Located> Take(std::string_view name);
  absl::StatusOr<bool> Bool(std::string_view name, bool otherwise);
  absl::StatusOr<std::optional<double>> Number(std::string_view name);
  absl::StatusOr<double> Number(std::string_view name, double otherwise);
  absl::StatusOr<std::optional<std::string>> Text(std::string_view name);
  // One or several texts.
  absl::StatusOr<std::vector<std::string>> Texts(std::string_view name, Config* config);
  // Three numbers, or one for all three.
  absl::StatusOr<std::vector<double>> Numbers(std::string_view name, Config* config);

  // Only this value is understood, or none at all.
  absl::Status Only(std::string_view name, const Json& value);
  // No effect on results, whatever they say.
  void Accept(std::initializer_list<std::string_view> names);
  // The first argument that nobody took is an error.
  absl::Status Done() const;

  absl::Status Refuse(std::string_view name, std::string_view text) const;

 private:
  Place place_;
  std::string target_;
  std::vector<std::pair<std::string, Located>> arguments_;
  std::set<std::string> taken_;
};

}  // namespace tomoserve::models::importer
