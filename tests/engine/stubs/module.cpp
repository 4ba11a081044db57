// Modules that a worker must refuse, and one whose header is right.
#include "tomoserve/cuda/module.h"

#ifdef STUB_TORCH
namespace {
constexpr tomoserve::cuda::Module kModule = {STUB_ABI, STUB_TORCH, "none", nullptr,
                                             nullptr,  nullptr,    nullptr};
}

extern "C" const tomoserve::cuda::Module* tomoserve_cuda_module() { return &kModule; }
#endif
