# Debian's packages (script/setup installs them). LibTorch has its own file, Torch.cmake.
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(GTest REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(OPENJPEG REQUIRED IMPORTED_TARGET libopenjp2)
pkg_check_modules(ZIP REQUIRED libzip)
pkg_check_modules(PROMETHEUS REQUIRED IMPORTED_TARGET prometheus-cpp-core)
find_package(DCMTK CONFIG REQUIRED)
find_package(ZLIB REQUIRED)

set(TOMOSERVE_DEPS ${CMAKE_SOURCE_DIR}/.deps CACHE PATH "What script/setup unpacked")
if(NOT EXISTS ${TOMOSERVE_DEPS}/googleapis/google/rpc/error_details.proto)
  message(FATAL_ERROR "${TOMOSERVE_DEPS} is incomplete: run script/setup first")
endif()

# Debian's openjph.pc names neither the headers' folder nor the library.
find_path(OPENJPH_INCLUDE openjph/ojph_codestream.h REQUIRED)
find_library(OPENJPH_LIBRARY openjph REQUIRED)
add_library(tomoserve_openjph INTERFACE)
target_include_directories(tomoserve_openjph SYSTEM INTERFACE ${OPENJPH_INCLUDE})
target_link_libraries(tomoserve_openjph INTERFACE ${OPENJPH_LIBRARY})

# Only the importer of models calls libzip: programs that do not import do not load it.
set(CMAKE_LINK_LIBRARY_USING_as_needed "LINKER:--push-state,--as-needed" <LIB_ITEM> "LINKER:--pop-state")
set(CMAKE_LINK_LIBRARY_USING_as_needed_SUPPORTED TRUE)
add_library(tomoserve_zip INTERFACE)
target_link_libraries(tomoserve_zip INTERFACE $<LINK_LIBRARY:as_needed,${ZIP_LINK_LIBRARIES}>)

# Debian's niftiio has no CMake package of its own.
find_path(NIFTI_INCLUDE nifti1_io.h PATH_SUFFIXES nifti REQUIRED)
find_library(NIFTI_LIBRARY niftiio REQUIRED)
find_library(ZNZ_LIBRARY znz REQUIRED)
add_library(tomoserve_nifti INTERFACE)
target_include_directories(tomoserve_nifti SYSTEM INTERFACE ${NIFTI_INCLUDE})
target_compile_definitions(tomoserve_nifti INTERFACE HAVE_ZLIB)
target_link_libraries(tomoserve_nifti INTERFACE ${NIFTI_LIBRARY} ${ZNZ_LIBRARY})

# The HTTP server under prometheus-cpp; used directly, so that the probes stand beside the metrics.
find_path(CIVETWEB_INCLUDE civetweb.h REQUIRED)
find_library(CIVETWEB_LIBRARY civetweb REQUIRED)
add_library(tomoserve_civetweb INTERFACE)
target_include_directories(tomoserve_civetweb SYSTEM INTERFACE ${CIVETWEB_INCLUDE})
target_link_libraries(tomoserve_civetweb INTERFACE ${CIVETWEB_LIBRARY})
