// The Python expressions that MONAI bundles write after a "$", read as trees. Nothing is ever run: whoever
// meets a tree recognises its form or refuses it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "models/import/json.h"

namespace tomoserve::models::importer {

struct Expression {
  enum class Kind {
    kValue,      // `value`: a number, a text, True, False, None
    kName,       // `text`
    kReference,  // `text`: the id after the '@', "a::b"
    kList,       // `parts`; also tuples
    kDict,       // `parts`: key, value, key, value
    kNot,        // `parts[0]`
    kNegate,     // `parts[0]`
    kIf,         // `parts`: condition, then, else
    kAdd,        // `parts[0] + parts[1]`
    kGreater,    // `parts[0] > parts[1]`
    kAttribute,  // `parts[0]`.`text`
    kIndex,      // `parts[0]`[`parts[1]`]
    kCall,       // `parts[0]` of the arguments that follow; `names[i]` of argument i is empty if positional
    kLambda,     // lambda `text`: `parts[0]`
  };
  Kind kind = Kind::kValue;
  Json value;
  std::string text;
  std::vector<Expression> parts;
  std::vector<std::string> names;
};

// `text` is what follows the "$". Error: a plain kInvalidArgument where it is not one of the kinds above, is
// longer than 4096 bytes or deeper than 32 levels.
absl::StatusOr<Expression> ParseExpression(std::string_view text);

// "torch.where" of names and attributes, "@detector.set_target_keys" where it begins with a reference; empty
// for anything else.
std::string DottedName(const Expression& expression);

}  // namespace tomoserve::models::importer
