// The child's side of a helper lease.
#pragma once

#include "tomoserve/dicom/runtime.h"
#include "tomoserve/ipc/record_socket.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dicom {

// Serves one lease until its socket ends: HelperRequest records in, one HelperReply per item out, in order.
// The first record of a HEADER or DECODE lease carries the spool's descriptor before any other; the slots
// of a record count its remaining descriptors. A job of another role than the lease's, a record that does not
// parse, or a missing spool ends the lease. What is wrong with one item refuses that item.
void ServeLease(const Runtime& runtime, const ipc::v1::LeaseRequest& request, ipc::RecordSocket& lease);

}  // namespace tomoserve::dicom
