// Which instance a header pass refused, carried in the status that says why.
#pragma once

#include "absl/status/status.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {

// Adds the refusal's UIDs and modality to the status; nothing where it has none.
void SetRefusedIdentity(const v1::Refusal& refusal, absl::Status& status);

// UIDs and modality of a status that SetRefusedIdentity has seen; empty fields of any other.
v1::Refusal RefusedIdentity(const absl::Status& status);

}  // namespace tomoserve::ipc
