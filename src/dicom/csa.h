// The private header that Siemens MR scanners put into (0029,xx10): a table of named values.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tomoserve::dicom {

// Values of the entry `name` of a CSA header of the second kind (it begins with "SV10"), trimmed, without the
// empty ones; none if there is no such entry. Layout: little endian; "SV10", 4 bytes, number of entries, a
// mark; each entry has a name of 64 bytes, multiplicity, VR, type, number of items, a mark; each item has
// four words, the second of which is its length, and its text padded to four bytes. Views of `bytes`. Errors:
// CSA_BROKEN (value: offset) for any other layout, above all the older one, and lengths that reach over the
// end.
absl::StatusOr<std::vector<std::string_view>> CsaValues(std::span<const std::byte> bytes,
                                                        std::string_view name);

}  // namespace tomoserve::dicom
