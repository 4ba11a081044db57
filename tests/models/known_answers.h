// A known answer for kValidRecipe.
#pragma once

#include <cstdint>
#include <vector>

#include "models/npy_files.h"

namespace tomoserve::models {

inline constexpr char kKnownAnswer[] = R"(
known_answer {
  volume: "known_answer.npy"
  geometry {
    size_ijk: [3, 2, 2] spacing_mm: [1, 1, 2] origin_lps { }
    direction_i: [1, 0, 0] direction_j: [0, 1, 0] direction_k: [0, 0, 1]
  }
  labels: "known_answer_labels.npy"
  differing_voxels: 0.1
}
)";
inline const std::vector<std::int16_t> kValues{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, -1000};
inline const std::vector<std::uint8_t> kLabels{0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0};

}  // namespace tomoserve::models
