# LibTorch from the PyPI wheel that script/setup unpacked, as own imported targets: the wheel's
# include folder also ships protobuf and fmt headers that would shadow the system's, so only
# ATen, c10, torch and caffe2 are exposed, through a folder of links.
set(TOMOSERVE_TORCH_ROOT ${TOMOSERVE_DEPS}/torch CACHE PATH "Unpacked torch and nvidia wheels")
set(_torch ${TOMOSERVE_TORCH_ROOT}/torch)
if(NOT EXISTS ${_torch}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "no LibTorch in ${TOMOSERVE_TORCH_ROOT}: run script/setup first")
endif()
# The module is refused by a worker of another version.
set(TOMOSERVE_TORCH_VERSION "")
foreach(part MAJOR MINOR PATCH)
  file(STRINGS ${_torch}/include/torch/headeronly/version.h _line REGEX "^#define TORCH_VERSION_${part} ")
  string(REGEX REPLACE "[^0-9]" "" _number "${_line}")
  list(APPEND TOMOSERVE_TORCH_VERSION ${_number})
endforeach()
list(JOIN TOMOSERVE_TORCH_VERSION "." TOMOSERVE_TORCH_VERSION)
set(_torch_include ${CMAKE_BINARY_DIR}/torch-include)
file(MAKE_DIRECTORY ${_torch_include})
foreach(entry ATen c10 torch caffe2 sleef.h)
  if(EXISTS ${_torch}/include/${entry})
    file(CREATE_LINK ${_torch}/include/${entry} ${_torch_include}/${entry} SYMBOLIC)
  endif()
endforeach()
set(_nvidia_lib ${TOMOSERVE_TORCH_ROOT}/nvidia/cu13/lib)

add_library(tomoserve_c10 SHARED IMPORTED)
set_target_properties(tomoserve_c10 PROPERTIES IMPORTED_LOCATION ${_torch}/lib/libc10.so)
add_library(tomoserve_torch_cpu SHARED IMPORTED)
set_target_properties(tomoserve_torch_cpu PROPERTIES IMPORTED_LOCATION ${_torch}/lib/libtorch_cpu.so)

add_library(tomoserve_torch INTERFACE)
add_library(tomoserve::torch ALIAS tomoserve_torch)
target_include_directories(tomoserve_torch SYSTEM INTERFACE ${_torch_include} ${_torch_include}/torch/csrc/api/include)
# A warning of the headers' templates that g++ reports at our call sites.
target_compile_options(tomoserve_torch INTERFACE -g1)
target_link_libraries(tomoserve_torch INTERFACE tomoserve_torch_cpu tomoserve_c10)
target_link_options(tomoserve_torch INTERFACE LINKER:-rpath-link,${_nvidia_lib} LINKER:-rpath,${_nvidia_lib})
tomoserve_precompile(tomoserve_torch INTERFACE <ATen/core/Tensor.h>)
