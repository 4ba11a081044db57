// Process-wide state: DCMTK's dictionary and codecs, character set converters.
#pragma once

#include <memory>

#include "absl/status/statusor.h"

namespace tomoserve::dicom {

class CharsetConverters;

// Loads everything that DCMTK and the C library would open lazily, so that a process can decode, convert text
// and write after a filter has taken `open` away: the data dictionary, the converters of the character sets
// of PS3.3 C.12.1.1.2 (kept open), RLE, JPEG and JPEG-LS codecs. Silences DCMTK's logger, which prints
// element values. One at a time in a process; codecs are deregistered at the end.
class Runtime {
 public:
  // Also writes and decodes a small image in every syntax that can be written: proves the codecs and faults
  // their pages in before the first fork. DICOM_RUNTIME if something is missing.
  static absl::StatusOr<std::unique_ptr<Runtime>> Create();
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

 private:
  Runtime();
  std::unique_ptr<CharsetConverters> converters_;
};

}  // namespace tomoserve::dicom
