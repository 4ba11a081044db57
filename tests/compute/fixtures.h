// Volumes for the tests of compute and pipeline.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "golden_case.h"
#include "shared_data.h"
#include "tomoserve/compute/stored_to_float.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::testing {

inline std::span<float> Floats(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

inline at::Tensor MakeTensor(std::vector<std::int64_t> shape, const std::vector<float>& values) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  std::copy(values.begin(), values.end(), Floats(tensor).begin());
  return tensor;
}

inline volume::Geometry AxialGeometry(std::array<std::uint32_t, 3> size_ijk, std::array<double, 3> spacing_mm,
                                      std::array<double, 3> origin_lps = {}) {
  return volume::Geometry::Create(size_ijk, spacing_mm, {origin_lps}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}})
      .value();
}

// 16 bit signed slices with slope 1 and intercept 0.
class StoredVolume {
 public:
  explicit StoredVolume(const volume::Geometry& geometry)
      : size_(geometry.size_ijk()), values_(static_cast<std::size_t>(geometry.voxels())) {}
  std::int16_t& At(std::size_t i, std::size_t j, std::size_t k) {
    return values_[(k * size_[1] + j) * size_[0] + i];
  }
  std::vector<compute::StoredSlice> Slices() const {
    const std::size_t pixels = std::size_t{size_[0]} * size_[1];
    std::vector<compute::StoredSlice> slices;
    for (std::size_t k = 0; k < size_[2]; ++k) {
      slices.push_back(
          {std::as_bytes(std::span(values_).subspan(k * pixels, pixels)), ipc::v1::STORED_TYPE_I16, 1, 0});
    }
    return slices;
  }

 private:
  std::array<std::uint32_t, 3> size_;
  std::vector<std::int16_t> values_;
};

// The chest CT of the golden cases.
struct ChestCt {
  volume::Geometry geometry;
  std::vector<CtSlice> series;

  std::vector<compute::StoredSlice> Slices() const {
    std::vector<compute::StoredSlice> slices;
    for (const CtSlice& slice : series) {
      slices.push_back(
          {std::as_bytes(std::span(slice.stored)), ipc::v1::STORED_TYPE_U16, slice.slope, slice.intercept});
    }
    return slices;
  }
};

inline std::filesystem::path ChestCtFolder() { return TestData() / "dicom" / "chest_ct_A0001"; }

// Geometry as the cases state it (case.json "geometry").
inline ChestCt ReadChestCt() {
  return {AxialGeometry({512, 512, 64}, {0.841796875, 0.841796875, 5.0}, {-228.036842, -93.0631599, -439.0}),
          ReadCtSeries(ChestCtFolder())};
}

}  // namespace tomoserve::testing
