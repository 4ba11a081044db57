// Where voxels lie in the patient: LPS, millimetres. See docs/GEOMETRY.md for the one page on axes.
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/statusor.h"
#include "tomoserve/v1/geometry.pb.h"

namespace tomoserve::volume {

// A point in patient space, LPS, mm.
struct LpsPoint {
  std::array<double, 3> mm{};
  bool operator==(const LpsPoint&) const = default;
};

// A direction or displacement in patient space, LPS.
using LpsVector = std::array<double, 3>;

// A position in a grid in voxels; integers are voxel centres. Not a point: only Geometry converts.
struct ContinuousVoxel {
  std::array<double, 3> ijk{};
  bool operator==(const ContinuousVoxel&) const = default;
};

// A voxel of a grid.
struct VoxelIndex {
  std::array<std::int64_t, 3> ijk{};
  bool operator==(const VoxelIndex&) const = default;
};

// A regular grid: i along a row (increasing column number), j along a column (increasing row number),
// k along the stack. Immutable value; invariants are checked by Create.
class Geometry {
 public:
  // Errors: kInvalidArgument GEOMETRY_INVALID (value: the field) for empty sizes, non-finite or
  // non-positive spacing, axes that are not unit vectors (within 1e-4) or not independent
  // (|determinant| < 1e-3), or more than 2^40 voxels. Axes need not be orthogonal.
  static absl::StatusOr<Geometry> Create(std::array<std::uint32_t, 3> size_ijk,
                                         std::array<double, 3> spacing_mm, LpsPoint origin_lps,
                                         std::array<LpsVector, 3> directions);
  static absl::StatusOr<Geometry> FromProto(const v1::Geometry& proto);
  v1::Geometry ToProto() const;

  const std::array<std::uint32_t, 3>& size_ijk() const { return size_; }
  const std::array<double, 3>& spacing_mm() const { return spacing_; }
  const LpsPoint& origin_lps() const { return origin_; }
  // Unit vectors of i, j, k.
  const std::array<LpsVector, 3>& directions() const { return directions_; }
  std::uint64_t voxels() const;
  // Volume of the cell that a voxel stands for, ml; right for sheared grids too.
  double voxel_volume_ml() const;

  // Centre of a voxel in the patient (PS3.3 C.7.6.2.1.1), LPS mm. Extrapolates outside the grid.
  LpsPoint ToLps(const ContinuousVoxel& voxel) const;
  // Inverse of ToLps.
  ContinuousVoxel ToVoxel(const LpsPoint& point) const;

  bool operator==(const Geometry&) const = default;

 private:
  Geometry() = default;
  std::array<std::uint32_t, 3> size_{};
  std::array<double, 3> spacing_{};
  LpsPoint origin_;
  std::array<LpsVector, 3> directions_{};
  std::array<LpsVector, 3> reciprocal_{};  // rows of the inverse of the voxel-to-LPS matrix, 1/mm
};

v1::PointLps ToProto(const LpsPoint& point);

}  // namespace tomoserve::volume
