# The CUDA compiler from the wheels that `script/setup --cuda` unpacks, and what the module links.
#
# The module names libtorch_cuda and libc10_cuda of the LibTorch wheel as needed. These name cuBLAS, cuDNN and others,
# which only GPU hosts have: --allow-shlib-undefined lets the link pass without them, --no-as-needed keeps the two
# although our own code calls neither (loading them is what registers the CUDA half of LibTorch).
set(TOMOSERVE_CUDA_ROOT ${TOMOSERVE_DEPS}/cuda/nvidia/cu13 CACHE PATH "Unpacked CUDA compiler wheels")
set(TOMOSERVE_CUDA_ARCHITECTURES "80-real;89-real;90" CACHE STRING
  "Machine code in the module, in CMake's form: N-real is SASS, N-virtual is PTX, N is both")
if(NOT EXISTS ${TOMOSERVE_CUDA_ROOT}/bin/nvcc)
  message(FATAL_ERROR "no CUDA compiler in ${TOMOSERVE_CUDA_ROOT}: run script/setup --cuda first")
endif()
set(CMAKE_CUDA_COMPILER ${TOMOSERVE_CUDA_ROOT}/bin/nvcc CACHE FILEPATH "nvcc")
# One CUDA run-time library in the process: LibTorch's.
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
set(CMAKE_CUDA_ARCHITECTURES ${TOMOSERVE_CUDA_ARCHITECTURES})
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
enable_language(CUDA)

# find_package(CUDAToolkit) stops under policies of CMake 3.25 with this layout; one library is all there is to find.
add_library(tomoserve_cudart SHARED IMPORTED)
set_target_properties(tomoserve_cudart PROPERTIES
  IMPORTED_LOCATION ${_nvidia_lib}/libcudart.so.13 IMPORTED_SONAME libcudart.so.13)
foreach(library c10_cuda torch_cuda)
  add_library(tomoserve_${library} SHARED IMPORTED)
  set_target_properties(tomoserve_${library} PROPERTIES
    IMPORTED_LOCATION ${_torch}/lib/lib${library}.so IMPORTED_SONAME lib${library}.so)
endforeach()

add_library(tomoserve_cuda_torch INTERFACE)
add_library(tomoserve::cuda_torch ALIAS tomoserve_cuda_torch)
target_link_options(tomoserve_cuda_torch INTERFACE LINKER:--no-as-needed LINKER:--allow-shlib-undefined
  LINKER:-rpath,${_torch}/lib LINKER:-rpath,${_nvidia_lib})
target_link_libraries(tomoserve_cuda_torch INTERFACE tomoserve_torch_cuda tomoserve_c10_cuda tomoserve_cudart)
