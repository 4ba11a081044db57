// libFuzzer's entry into one of the targets (TOMOSERVE_FUZZ_TARGET).
#include <cstdint>

#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tomoserve::fuzz::TOMOSERVE_FUZZ_TARGET(std::as_bytes(std::span(data, size)));
  return 0;
}
