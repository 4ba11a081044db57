# Language, warnings, sanitizers: what holds for all of our own code.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# Programs of the release build land in build/bin (a contract), all others beside their objects.
if(TOMOSERVE_BIN_DIR)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${TOMOSERVE_BIN_DIR})
else()
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endif()

# Headers of a library that take seconds to read, precompiled for each target that links it. ccache needs
# CCACHE_SLOPPINESS=pch_defines,time_macros then (presets and scripts set it).
function(tomoserve_precompile target)
  if(TOMOSERVE_PRECOMPILE)
    target_precompile_headers(${target} ${ARGN})
  endif()
endfunction()
if(TOMOSERVE_PRECOMPILE AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  add_compile_options(-fpch-preprocess)
endif()

# Linked PRIVATE by every target of ours; generated code does without.
add_library(tomoserve_warnings INTERFACE)
if(TOMOSERVE_FUZZ)
  # Clang warns of other things than the compiler of all other builds; here it only has to find the inputs.
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL Clang)
    message(FATAL_ERROR "TOMOSERVE_FUZZ needs clang: cmake --preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
else()
  # GCC forgets which headers of a precompiled one are the system's, and warns of them: no errors then. The
  # presets without precompiled headers compile every room with them.
  target_compile_options(tomoserve_warnings INTERFACE
    -Wall -Wextra -Wconversion -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
    $<$<NOT:$<BOOL:${TOMOSERVE_PRECOMPILE}>>:-Werror>)
endif()
target_compile_definitions(tomoserve_warnings INTERFACE
  $<$<CONFIG:Debug>:_GLIBCXX_ASSERTIONS>)

if(TOMOSERVE_SANITIZE)
  list(JOIN TOMOSERVE_SANITIZE "," sanitizers)
  add_compile_options(-fsanitize=${sanitizers} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${sanitizers})
  add_compile_definitions(TOMOSERVE_SANITIZED=1)
  if("thread" IN_LIST TOMOSERVE_SANITIZE)
    # The prebuilt gRPC is not instrumented (grpc/grpc#19224).
    add_compile_definitions(GRPC_TSAN_SUPPRESSED)
  else()
    add_compile_definitions(GRPC_ASAN_SUPPRESSED)
  endif()
endif()

# What results say of the build that made them: version and commit, where there is one.
find_package(Git QUIET)
set(TOMOSERVE_BUILD ${PROJECT_VERSION})
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${CMAKE_SOURCE_DIR} rev-parse --short=12 HEAD
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(commit)
    string(APPEND TOMOSERVE_BUILD "+${commit}")
  endif()
  # A new commit configures anew.
  if(EXISTS ${CMAKE_SOURCE_DIR}/.git/logs/HEAD)
    set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/.git/logs/HEAD)
  endif()
endif()
