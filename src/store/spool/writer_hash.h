// The digest of the record that a writer has open.
#pragma once

#include "tomoserve/base/digest.h"
#include "tomoserve/store/spool.h"

namespace tomoserve::store {

struct SpoolWriter::Hash {
  base::Sha256 sha256;
};

}  // namespace tomoserve::store
