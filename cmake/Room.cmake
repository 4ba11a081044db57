# A room is a static library with public headers in include/tomoserve/<room> and code in src/<room>.
#
#   tomoserve_room(volume SOURCES geometry.cpp DEPENDS base LIBRARIES absl::strings)
#     DEPENDS: rooms or "proto"; LIBRARIES: outside libraries, linked PUBLIC;
#     PRIVATE: outside libraries, linked PRIVATE.
#   tomoserve_room_test(volume SOURCES geometry_test.cpp [LIBRARIES ...])
#     one program per room; sources lie in tests/<room>.
#   tomoserve_program(tomoserve SOURCES tomoserve/main.cpp DEPENDS ... LIBRARIES ...)
include(GoogleTest)

function(_tomoserve_rooms out)
  set(targets "")
  foreach(room IN LISTS ARGN)
    list(APPEND targets tomoserve::${room})
  endforeach()
  set(${out} ${targets} PARENT_SCOPE)
endfunction()

function(tomoserve_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPENDS;LIBRARIES;PRIVATE" ${ARGN})
  _tomoserve_rooms(depends ${ROOM_DEPENDS})
  if(ROOM_SOURCES)
    add_library(tomoserve_${name} STATIC ${ROOM_SOURCES})
    target_include_directories(tomoserve_${name} PUBLIC ${CMAKE_SOURCE_DIR}/include PRIVATE ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(tomoserve_${name} PUBLIC ${depends} ${ROOM_LIBRARIES} PRIVATE tomoserve_warnings ${ROOM_PRIVATE})
  else()
    add_library(tomoserve_${name} INTERFACE)
    target_include_directories(tomoserve_${name} INTERFACE ${CMAKE_SOURCE_DIR}/include)
    target_link_libraries(tomoserve_${name} INTERFACE ${depends} ${ROOM_LIBRARIES})
  endif()
  add_library(tomoserve::${name} ALIAS tomoserve_${name})
endfunction()

function(tomoserve_room_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  list(TRANSFORM TEST_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/tests/${name}/)
  _tomoserve_rooms(depends ${name} ${TEST_DEPENDS})
  add_executable(${name}_test ${TEST_SOURCES})
  target_include_directories(${name}_test PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(${name}_test PRIVATE TOMOSERVE_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
    TOMOSERVE_BINARY_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  target_link_libraries(${name}_test PRIVATE ${depends} ${TEST_LIBRARIES} GTest::gmock GTest::gtest_main tomoserve_warnings)
  tomoserve_precompile(${name}_test PRIVATE <gmock/gmock.h> <gtest/gtest.h>)
  set_target_properties(${name}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  gtest_discover_tests(${name}_test DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${name} TIMEOUT 300)
endfunction()

function(tomoserve_program name)
  cmake_parse_arguments(PROGRAM "" "" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  _tomoserve_rooms(depends ${PROGRAM_DEPENDS})
  add_executable(${name} ${PROGRAM_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE ${depends} ${PROGRAM_LIBRARIES} tomoserve_warnings)
endfunction()
