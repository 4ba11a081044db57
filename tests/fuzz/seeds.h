// The corpus: small files by our own writers, one for each thing that the targets can meet.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/dicom/runtime.h"

namespace tomoserve::fuzz {

struct Seed {
  std::string name;
  std::vector<std::byte> bytes;
};

// Files for the targets Gatekeeper, Header and Helper: images in every syntax that can be written, and
// structures.
absl::StatusOr<std::vector<Seed>> DicomSeeds(const dicom::Runtime& runtime);

// Records for the target Reply.
std::vector<Seed> ReplySeeds();

}  // namespace tomoserve::fuzz
