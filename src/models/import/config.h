// A MONAI bundle's configuration: references, switched-off parts, expressions.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/import/expression.h"
#include "models/import/json.h"

namespace tomoserve::models::importer {

// A value and the place where it stands (not the place that refers to it). `value` is no reference; it is a
// text that begins with "$" only where the expression is none that Config computes. Values inside may be
// references.
struct Located {
  const Json* value = nullptr;
  Place place;
};

// Confined to one thread. Values live as long as it does. Work is bounded, whatever the references say.
class Config {
 public:
  explicit Config(Json root) : root_(std::move(root)) {}

  const Json& root() const { return root_; }
  // The value at `id` ("evaluator::inferer", "#" for "::" as well), resolved. Find: nothing where there is
  // none.
  absl::StatusOr<Located> At(std::string_view id);
  absl::StatusOr<std::optional<Located>> Find(std::string_view id);
  // What `raw` at `place` leads to. Errors: IMPORT_INVALID for references that lead nowhere or in a circle.
  absl::StatusOr<Located> Resolve(const Json& raw, const Place& place);
  // A member of an object or an item of a list, resolved; it must be there.
  absl::StatusOr<Located> Child(const Located& parent, std::string_view key);
  absl::StatusOr<Located> Child(const Located& parent, std::size_t index);
  // A list's items or an object's members, resolved all the way down.
  absl::StatusOr<Json> Whole(const Located& value);

  // Whether the bundle switches this object off (`_disabled_`).
  absl::StatusOr<bool> IsDisabled(const Located& object);
  // `_target_` without "monai." and what follows up to the name: "LoadImaged"; targets outside of MONAI
  // whole.
  absl::StatusOr<std::string> Target(const Located& object);
  // The class or function that a call or an object names, and its arguments by name or position; nothing for
  // anything else. Only literals and references among the arguments are computed.
  struct Call {
    std::string target;
    std::vector<std::pair<std::string, Located>> arguments;
  };
  absl::StatusOr<std::optional<Call>> AsCall(const Located& value);

 private:
  absl::Status Spend(std::size_t steps, const Place& place);
  absl::StatusOr<const Json*> Raw(std::string_view id, const Place& from, Place* place);
  absl::StatusOr<Located> Follow(const Json& raw, const Place& place, int hops);
  absl::StatusOr<Json> Compute(const Expression& expression, const Place& place, int hops);
  absl::StatusOr<Json> ComputeSum(const Expression& expression, const Place& place, int hops);
  absl::StatusOr<Json> WholeOf(const Json& raw, const Place& place, int hops);
  Located Keep(Json value, const Place& place);

  Json root_;
  std::deque<Json> computed_;
  std::size_t steps_ = 0;
};

}  // namespace tomoserve::models::importer
