#include "apps/tomoctl/nifti.h"

#include <nifti1_io.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::tomoctl {
namespace {

struct FreeImage {
  void operator()(nifti_image* image) const {
    image->data = nullptr;  // borrowed
    nifti_image_free(image);
  }
};

// Reads the file back: a full disk must not end in a cut label map and a success.
absl::Status CheckWritten(const std::string& path, std::string_view voxels) {
  nifti_image* image = nifti_image_read(path.c_str(), 1);
  const bool equal =
      image != nullptr && image->data != nullptr &&
      static_cast<std::size_t>(image->nvox) * static_cast<std::size_t>(image->nbyper) == voxels.size() &&
      std::memcmp(image->data, voxels.data(), voxels.size()) == 0;
  if (image != nullptr) nifti_image_free(image);
  if (equal) return absl::OkStatus();
  return base::Error(absl::StatusCode::kInternal, "OUTPUT", path, absl::StrCat("cannot write ", path));
}

// What the payload must be: of each time point all its layers, each voxels() values.
struct Shape {
  std::array<int, 3> size_ijk;
  int times = 1;
  std::size_t layers = 1;
  std::size_t volume_bytes = 0;  // of one layer at one time point
};

// NIfTI-1 keeps each size in 16 bits with a sign.
constexpr std::uint32_t kMaxSize = 32767;

absl::StatusOr<Shape> ShapeOf(const v1::LabelMapInfo& info, const volume::Geometry& grid,
                              std::size_t payload_bytes) {
  Shape shape;
  const std::uint32_t times = std::max<std::uint32_t>(info.time_points(), 1);
  for (const std::uint32_t size : {grid.size_ijk()[0], grid.size_ijk()[1], grid.size_ijk()[2], times}) {
    if (size <= kMaxSize) continue;
    return base::Error(absl::StatusCode::kInvalidArgument, "NIFTI_SIZE", absl::StrCat(size),
                       "the label map is too large for NIfTI-1 files, which hold 32767 along each axis");
  }
  std::transform(grid.size_ijk().begin(), grid.size_ijk().end(), shape.size_ijk.begin(),
                 [](std::uint32_t size) { return static_cast<int>(size); });
  if (info.bytes_per_voxel() != 1 && info.bytes_per_voxel() != 2) {
    return base::Error(absl::StatusCode::kInvalidArgument, "LABEL_MAP_TYPE",
                       absl::StrCat(info.bytes_per_voxel()),
                       "the label map's voxels have neither 1 byte nor 2");
  }
  shape.times = static_cast<int>(times);
  shape.layers = static_cast<std::size_t>(std::max(info.layers_size(), 1));
  // A grid has at most 2^40 voxels, and there are less than 2^46 volumes: neither product overflows.
  shape.volume_bytes = grid.voxels() * info.bytes_per_voxel();
  const std::size_t volumes = shape.layers * times;
  if (payload_bytes % volumes != 0 || payload_bytes / volumes != shape.volume_bytes) {
    return base::Error(absl::StatusCode::kDataLoss, "LABEL_MAP_SIZE", absl::StrCat(payload_bytes),
                       "the label map's size does not fit its grid, layers and time points");
  }
  return shape;
}

// A header for one layer: the volume's grid, and time as the fourth axis where there are several points. How
// far these are apart is not known: NIfTI's 1 of no unit.
absl::StatusOr<std::unique_ptr<nifti_image, FreeImage>> MakeHeader(const Shape& shape,
                                                                   const volume::Geometry& grid,
                                                                   std::uint32_t bytes_per_voxel) {
  const std::array<int, 8> dims = {
      shape.times > 1 ? 4 : 3, shape.size_ijk[0], shape.size_ijk[1], shape.size_ijk[2], shape.times, 1, 1, 1};
  std::unique_ptr<nifti_image, FreeImage> image(
      nifti_make_new_nim(dims.data(), bytes_per_voxel == 2 ? DT_UINT16 : DT_UINT8, 0));
  if (image == nullptr) return absl::InternalError("out of memory for a NIfTI header");
  constexpr std::array<float, 3> kLpsToRas = {-1, -1, 1};
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t column = 0; column < 3; ++column) {
      image->sto_xyz.m[row][column] =
          kLpsToRas[row] * static_cast<float>(grid.directions()[column][row] * grid.spacing_mm()[column]);
    }
    image->sto_xyz.m[row][3] = kLpsToRas[row] * static_cast<float>(grid.origin_lps().mm[row]);
  }
  image->sto_xyz.m[3][3] = 1;
  image->sform_code = NIFTI_XFORM_SCANNER_ANAT;
  image->qform_code = NIFTI_XFORM_SCANNER_ANAT;
  nifti_mat44_to_quatern(image->sto_xyz, &image->quatern_b, &image->quatern_c, &image->quatern_d,
                         &image->qoffset_x, &image->qoffset_y, &image->qoffset_z, &image->dx, &image->dy,
                         &image->dz, &image->qfac);
  image->pixdim[1] = image->dx;
  image->pixdim[2] = image->dy;
  image->pixdim[3] = image->dz;
  image->xyz_units = NIFTI_UNITS_MM;
  return image;
}

// A layer of all time points, which lie among the other layers; `own` holds it where it must be put together.
std::string_view LayerOf(std::string_view voxels, const Shape& shape, std::size_t layer, std::string& own) {
  const auto times = static_cast<std::size_t>(shape.times);
  if (times == 1 || shape.layers == 1) {
    return voxels.substr(layer * shape.volume_bytes * times, shape.volume_bytes * times);
  }
  own.clear();
  own.reserve(shape.volume_bytes * times);
  for (std::size_t time = 0; time < times; ++time) {
    own += voxels.substr((time * shape.layers + layer) * shape.volume_bytes, shape.volume_bytes);
  }
  return own;
}

}  // namespace

absl::Status WriteLabelMap(const std::string& prefix, const v1::LabelMapInfo& info,
                           const std::string& voxels) {
  TS_ASSIGN_OR_RETURN(const volume::Geometry grid, volume::Geometry::FromProto(info.grid()));
  TS_ASSIGN_OR_RETURN(const Shape shape, ShapeOf(info, grid, voxels.size()));
  std::string own;
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    TS_ASSIGN_OR_RETURN(const auto image, MakeHeader(shape, grid, info.bytes_per_voxel()));
    const std::string& name =
        info.layers_size() > 1 ? info.layers(static_cast<int>(layer)).name() : std::string();
    const std::string path =
        name.empty() ? absl::StrCat(prefix, ".nii.gz") : absl::StrCat(prefix, "_", name, ".nii.gz");
    if (nifti_set_filenames(image.get(), path.c_str(), 0, 1) != 0)
      return absl::InternalError("NIfTI file name");
    const std::string_view values = LayerOf(voxels, shape, layer, own);
    image->data = const_cast<char*>(values.data());  // only read
    nifti_image_write(image.get());                  // says nothing about its success
    TS_RETURN_IF_ERROR(CheckWritten(path, values));
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::tomoctl
