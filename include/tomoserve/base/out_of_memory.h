// One error for memory that did not suffice, whichever library ran out of it.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace tomoserve::base {

// kResourceExhausted OUT_OF_MEMORY. `value`: what it was for (a shape, a number of bytes; may be empty);
// `what`: what failed, a part of a sentence without patient values ("a window").
absl::Status OutOfMemory(std::string_view value, std::string_view what);

// Whether an exception's text says that memory ran out. LibTorch's CPU allocator, its allocator of pinned
// memory and cuDNN throw errors of no type of their own, and TorchScript's interpreter turns every exception
// into a std::runtime_error: only the text is left to tell.
bool SaysOutOfMemory(std::string_view text);

// Whether it may mean that: cuDNN and cuBLAS drop the cause of some failures. cuDNN has no engine left when
// no engine's workspace could be had, and also when it knows none for the shape; a handle cannot be made
// without memory, and also not on a device that is broken. Only another try with more memory tells.
bool MayMeanOutOfMemory(std::string_view text);

}  // namespace tomoserve::base
