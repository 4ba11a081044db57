// Where exceptions of ATen end.
#pragma once

#include <c10/core/InferenceMode.h>

#include <exception>
#include <new>
#include <utility>

#include "absl/status/status.h"

namespace tomoserve::compute {

// The error that stands for a caught exception: kResourceExhausted OUT_OF_MEMORY where memory ran out,
// kInternal TENSOR_FAILED otherwise (the first line of what ATen said, without its stack).
absl::Status ErrorOf(const std::exception& exception);

// Runs `body`, which returns absl::Status or absl::StatusOr, in inference mode (outputs of a network may be
// inference tensors, which only this mode may change in place) and turns exceptions into its error.
template <typename Body>
auto Fenced(Body&& body) -> decltype(body()) {
  try {
    const c10::InferenceMode inference;
    return std::forward<Body>(body)();
  } catch (const std::exception& exception) {
    return ErrorOf(exception);
  }
}

}  // namespace tomoserve::compute
