// The child's side of a helper program: a single-threaded zygote that forks a sandboxed child per lease.
#pragma once

#include <functional>

#include "tomoserve/ipc/record_socket.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {

// Serves one lease inside its sandboxed child: answers one HelperReply per item of every HelperRequest, in
// order, until the socket ends (PEER_GONE), then returns. The first record of a HEADER or DECODE lease brings
// the spool's descriptor and no items; each later record brings the arenas' descriptors that its slots count
// (Slot.arena 0 is the record's first descriptor). `request` holds role and limits. A reply that Send refuses
// as RECORD_TOO_LARGE must be answered by a Refusal instead. Must not start threads, fork or open files: the
// filter kills the process. An exception ends the child like a crash.
using ServeLease = std::function<void(const v1::LeaseRequest& request, RecordSocket& lease)>;

// Runs until the control socket ends; returns the program's exit code. Must be single-threaded. Each lease is
// forked, sandboxed, served by `serve`, and ends with _exit: static destructors do not run. Ignores SIGINT,
// SIGHUP and SIGTERM (the front's end is the end); the children keep their defaults.
int RunZygote(RecordSocket control, const ServeLease& serve);

}  // namespace tomoserve::ipc
