#include "tomoserve/volume/geometry.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::volume {
namespace {

constexpr std::uint64_t kMaxVoxels = std::uint64_t{1} << 40;
constexpr double kUnitTolerance = 1e-4;
constexpr double kMinDeterminant = 1e-3;

absl::Status Invalid(std::string_view field, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "GEOMETRY_INVALID", field, text);
}

double Dot(const LpsVector& a, const LpsVector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

LpsVector Cross(const LpsVector& a, const LpsVector& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

bool Finite(const std::array<double, 3>& values) {
  return std::isfinite(values[0]) && std::isfinite(values[1]) && std::isfinite(values[2]);
}

void Append(const LpsVector& vector, google::protobuf::RepeatedField<double>* out) {
  out->Add(vector.begin(), vector.end());
}

}  // namespace

absl::StatusOr<Geometry> Geometry::Create(std::array<std::uint32_t, 3> size_ijk,
                                          std::array<double, 3> spacing_mm, LpsPoint origin_lps,
                                          std::array<LpsVector, 3> directions) {
  std::uint64_t voxels = 1;
  for (const std::uint32_t size : size_ijk) {
    if (size == 0) return Invalid("size_ijk", "a size of the grid is 0");
    if (voxels > kMaxVoxels / size) return Invalid("size_ijk", "the grid has more than 2^40 voxels");
    voxels *= size;
  }
  for (const double spacing : spacing_mm) {
    if (!std::isfinite(spacing) || spacing <= 0) {
      return Invalid("spacing_mm", "a spacing is not a positive number");
    }
  }
  if (!Finite(origin_lps.mm)) return Invalid("origin_lps", "the origin is not finite");
  for (const LpsVector& direction : directions) {
    if (!Finite(direction) || std::abs(std::sqrt(Dot(direction, direction)) - 1) > kUnitTolerance) {
      return Invalid("directions", "a direction is not a unit vector");
    }
  }
  const double determinant = Dot(directions[0], Cross(directions[1], directions[2]));
  if (std::abs(determinant) < kMinDeterminant) {
    return Invalid("directions", "the directions are not independent");
  }
  Geometry geometry;
  geometry.size_ = size_ijk;
  geometry.spacing_ = spacing_mm;
  geometry.origin_ = origin_lps;
  geometry.directions_ = directions;
  // Rows of the inverse of [d_i s_i, d_j s_j, d_k s_k] are the reciprocal vectors.
  for (std::size_t axis = 0; axis < 3; ++axis) {
    geometry.reciprocal_[axis] = Cross(directions[(axis + 1) % 3], directions[(axis + 2) % 3]);
    for (double& component : geometry.reciprocal_[axis]) component /= determinant * spacing_mm[axis];
  }
  return geometry;
}

absl::StatusOr<Geometry> Geometry::FromProto(const v1::Geometry& proto) {
  if (proto.size_ijk_size() != 3) return Invalid("size_ijk", "size_ijk does not have three numbers");
  if (proto.spacing_mm_size() != 3) return Invalid("spacing_mm", "spacing_mm does not have three numbers");
  if (!proto.has_origin_lps()) return Invalid("origin_lps", "origin_lps is missing");
  if (proto.direction_i_size() != 3 || proto.direction_j_size() != 3 || proto.direction_k_size() != 3) {
    return Invalid("directions", "a direction does not have three numbers");
  }
  std::array<std::uint32_t, 3> size{};
  std::array<double, 3> spacing{};
  std::array<LpsVector, 3> directions{};
  for (int axis = 0; axis < 3; ++axis) {
    const auto at = static_cast<std::size_t>(axis);
    size[at] = proto.size_ijk(axis);
    spacing[at] = proto.spacing_mm(axis);
    directions[0][at] = proto.direction_i(axis);
    directions[1][at] = proto.direction_j(axis);
    directions[2][at] = proto.direction_k(axis);
  }
  const v1::PointLps& origin = proto.origin_lps();
  return Create(size, spacing, LpsPoint{{origin.x_mm(), origin.y_mm(), origin.z_mm()}}, directions);
}

v1::Geometry Geometry::ToProto() const {
  v1::Geometry proto;
  proto.mutable_size_ijk()->Add(size_.begin(), size_.end());
  proto.mutable_spacing_mm()->Add(spacing_.begin(), spacing_.end());
  *proto.mutable_origin_lps() = volume::ToProto(origin_);
  Append(directions_[0], proto.mutable_direction_i());
  Append(directions_[1], proto.mutable_direction_j());
  Append(directions_[2], proto.mutable_direction_k());
  return proto;
}

std::uint64_t Geometry::voxels() const {
  return std::uint64_t{size_[0]} * std::uint64_t{size_[1]} * std::uint64_t{size_[2]};
}

double Geometry::voxel_volume_ml() const {
  const double determinant = Dot(directions_[0], Cross(directions_[1], directions_[2]));
  return std::abs(determinant) * spacing_[0] * spacing_[1] * spacing_[2] / 1000;
}

LpsPoint Geometry::ToLps(const ContinuousVoxel& voxel) const {
  LpsPoint point = origin_;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double distance_mm = voxel.ijk[axis] * spacing_[axis];
    for (std::size_t d = 0; d < 3; ++d) point.mm[d] += directions_[axis][d] * distance_mm;
  }
  return point;
}

ContinuousVoxel Geometry::ToVoxel(const LpsPoint& point) const {
  const LpsVector offset{point.mm[0] - origin_.mm[0], point.mm[1] - origin_.mm[1],
                         point.mm[2] - origin_.mm[2]};
  return {{Dot(reciprocal_[0], offset), Dot(reciprocal_[1], offset), Dot(reciprocal_[2], offset)}};
}

v1::PointLps ToProto(const LpsPoint& point) {
  v1::PointLps proto;
  proto.set_x_mm(point.mm[0]);
  proto.set_y_mm(point.mm[1]);
  proto.set_z_mm(point.mm[2]);
  return proto;
}

}  // namespace tomoserve::volume
