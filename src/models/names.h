// Names in a repository and the order of versions.
#pragma once

#include <string_view>

namespace tomoserve::models {

// Names of models, versions and network files: 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-', no leading dot.
bool IsName(std::string_view text);

// Whether version `a` is older than `b`: runs of digits compare as numbers ("9" < "10", "1.2" < "1.10"),
// everything else as bytes. A strict total order: of equal numbers the one with fewer leading zeros is older.
bool OlderVersion(std::string_view a, std::string_view b);

}  // namespace tomoserve::models
