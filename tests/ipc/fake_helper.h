// What the fake helper does with an item: the offset of its spool range says so.
#pragma once

#include <cstdint>

namespace tomoserve::ipc::fake {

enum Behaviour : std::uint64_t {
  kFine = 0,
  kRefuse,            // Refusal NOT_DICOM
  kAbort,             // always dies (SIGABRT)
  kAbortUnlessFirst,  // dies unless it is the first item of its lease
  kSegfault,          // always dies (SIGSEGV)
  kThrow,             // throws out of the lease
  kReturn,            // ends the lease early, in order
  kForbiddenCall,     // socket(): killed by the filter
  kSpin,              // never answers, burning CPU
  kSleep,             // never answers, idle
  kCloseAndStay,      // closes its socket and lives on
  kSlow,              // answers after 30 ms
  kEatMemory,         // more than its limit
  kWrongIndex,
  kWrongKind,
  kOtherSlot,
  kWrongBytes,
  kNotFinite,
  kBadCode,
  kGarbage,
  kOversize,
  kEmptyRecord,
  kSendsDescriptor,
  kSendsTwice,
  kReadsSpool,       // the answer holds the bytes at the range
  kFrameParts,       // five frames in two records before the header
  kTooFewFrames,     // the header says one more
  kFramesInBoth,     // frames before the header and in it
  kEmptyPart,        // a record of frames without any
  kEndlessParts,     // frames without end
  kFramesThenAbort,  // dies between the frames and the header
  kFramesThenRefuse,
  kLongTexts,        // frames with more text than any has, without end
  kEndlessBytes,     // frames as large as they may be, without end
  kLargeHeader,      // 1000 frames of about 1 KiB
  kAbortUnlessSlow,  // dies unless it is asked for the slow codec
};

}  // namespace tomoserve::ipc::fake
