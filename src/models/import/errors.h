// What an import is refused with. The value is the place in the JSON, e.g.
// "preprocessing.transforms[3].keys".
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::models::importer {

// The bundle says something that a recipe cannot, or that the importer does not know.
inline absl::Status NotSupported(std::string_view place, std::string_view text) {
  return base::Error(absl::StatusCode::kUnimplemented, "IMPORT_UNSUPPORTED", place,
                     absl::StrCat(base::ToAbsl(place), ": ", base::ToAbsl(text)));
}

// The bundle contradicts itself or lacks what it must say.
inline absl::Status Malformed(std::string_view place, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "IMPORT_INVALID", place,
                     absl::StrCat(base::ToAbsl(place), ": ", base::ToAbsl(text)));
}

}  // namespace tomoserve::models::importer
