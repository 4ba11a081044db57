#include "apps/tomoctl/nifti.h"

#include <nifti1_io.h>

#include <array>
#include <cstring>
#include <memory>

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
absl::Status CheckWritten(const std::string& path, const char* voxels, std::size_t bytes) {
  nifti_image* image = nifti_image_read(path.c_str(), 1);
  const bool equal =
      image != nullptr && image->data != nullptr &&
      static_cast<std::size_t>(image->nvox) * static_cast<std::size_t>(image->nbyper) == bytes &&
      std::memcmp(image->data, voxels, bytes) == 0;
  if (image != nullptr) nifti_image_free(image);
  if (equal) return absl::OkStatus();
  return base::Error(absl::StatusCode::kInternal, "OUTPUT", path, absl::StrCat("cannot write ", path));
}

}  // namespace

absl::Status WriteLabelMap(const std::string& prefix, const v1::LabelMapInfo& info,
                           const std::string& voxels) {
  TS_ASSIGN_OR_RETURN(const volume::Geometry grid, volume::Geometry::FromProto(info.grid()));
  const std::uint32_t times = info.time_points() == 0 ? 1 : info.time_points();
  const auto layers = static_cast<std::size_t>(info.layers_size() == 0 ? 1 : info.layers_size());
  const std::size_t layer_bytes = grid.voxels() * times * info.bytes_per_voxel();
  if (voxels.size() != layer_bytes * layers) {
    return base::Error(absl::StatusCode::kDataLoss, "LABEL_MAP_SIZE", absl::StrCat(voxels.size()),
                       "the label map's size does not fit its grid");
  }
  for (std::size_t layer = 0; layer < layers; ++layer) {
    const auto& size = grid.size_ijk();
    const std::array<int, 8> dims = {times > 1 ? 4 : 3,
                                     static_cast<int>(size[0]),
                                     static_cast<int>(size[1]),
                                     static_cast<int>(size[2]),
                                     static_cast<int>(times),
                                     1,
                                     1,
                                     1};
    const std::unique_ptr<nifti_image, FreeImage> image(
        nifti_make_new_nim(dims.data(), info.bytes_per_voxel() == 2 ? DT_UINT16 : DT_UINT8, 0));
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
    const std::string& name =
        info.layers_size() > 1 ? info.layers(static_cast<int>(layer)).name() : std::string();
    const std::string path =
        name.empty() ? absl::StrCat(prefix, ".nii.gz") : absl::StrCat(prefix, "_", name, ".nii.gz");
    if (nifti_set_filenames(image.get(), path.c_str(), 0, 1) != 0)
      return absl::InternalError("NIfTI file name");
    image->data = const_cast<char*>(voxels.data() + layer * layer_bytes);  // only read
    nifti_image_write(image.get());                                        // says nothing about its success
    TS_RETURN_IF_ERROR(CheckWritten(path, voxels.data() + layer * layer_bytes, layer_bytes));
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::tomoctl
