// The maps of a detector's heads: how they are cut and put together (MONAI's RetinaNetDetector with its
// sliding window inferer), and the candidates in them.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/boxes.h"
#include "tomoserve/compute/windows.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::compute {

// One level's maps, in cells along x, y, z.
struct LevelPlan {
  Xyz stride{};         // input voxels per cell of a window's map
  Xyz window{};         // cells of a window's map
  Xyz stitched{};       // cells of all windows together
  Xyz first{};          // the first stitched cell that counts
  Xyz size{};           // cells that count
  Xyz anchor_stride{};  // voxels between the centres of anchors
};

struct HeadPlan {
  Xyz volume{};        // voxels of the prepared volume
  Xyz padded{};        // with zeros at its end
  Xyz pad_before{};    // zeros before it, where a window is larger
  WindowPlan windows;  // starts as MonaiWindows counts them; output_size is the input's
  std::vector<LevelPlan> levels;
  // Of a window's maps: per level the classification map [1, anchors * classes, cells along x, y, z], then
  // per level the box map [1, anchors * 6, cells along x, y, z].
  std::vector<std::vector<std::int64_t>> shapes;
  bool OneWindow() const { return windows.starts.size() == 1; }
};

// Volumes with fewer voxels than `whole_below_voxels` are one window, others are cut as `windows` says.
// Errors: kInvalidArgument RECIPE_INVALID (value: the field) where a window or the padding is no whole number
// of cells; those of MonaiWindows.
absl::StatusOr<HeadPlan> PlanHeads(const v1::DetectBoxes& boxes, std::uint32_t classes,
                                   const v1::Windows& windows, const Xyz& volume);

// Sums of windows' maps. Confined to one thread at a time.
class HeadMaps {
 public:
  // Maps lie on `device`.
  HeadMaps(HeadPlan plan, const v1::DetectBoxes& boxes, std::uint32_t classes, c10::Device device);

  // Adds the maps of window `index`, of the plan's shapes; takes them over.
  void Add(std::size_t index, std::vector<at::Tensor> maps);

  // After the last window: per level the candidates_per_level highest scores above score_above (equal scores
  // in the order x, y, z, anchor, class), decoded and clipped to the volume; levels one after the other. Only
  // what may be a candidate leaves the device.
  std::vector<Detection> Candidates() const;

 private:
  void AddLevel(std::size_t level, const Xyz& start, const at::Tensor& scores, const at::Tensor& boxes);
  // One class at one anchor.
  struct Cell {
    float score = 0;
    Xyz xyz{};                 // among those that count
    std::int64_t channel = 0;  // anchor * classes + class
  };
  std::vector<Cell> BestCells(std::size_t level) const;
  std::vector<BoxDeltas> DeltasOf(std::size_t level, std::span<const Cell> cells) const;
  void AddCandidates(std::size_t level, std::vector<Detection>& candidates) const;

  const HeadPlan plan_;
  const v1::DetectBoxes boxes_;
  const std::uint32_t classes_;
  const c10::Device device_;
  std::vector<at::Tensor> scores_;  // by level: [anchors * classes][x][y][z]
  std::vector<at::Tensor> deltas_;  // by level: [anchors * 6][x][y][z]
  std::vector<at::Tensor> counts_;  // by level: windows at [x][y][z]; empty where there is one window
};

}  // namespace tomoserve::compute
