// Label maps as NIfTI-1 files, through Debian's niftiio.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "tomoserve/v1/finding.pb.h"

namespace tomoserve::tomoctl {

// Writes one file per layer: PREFIX.nii.gz, or PREFIX_<layer>.nii.gz if there are several. Voxels in the
// volume's own grid (i fastest, then j, k, time), affine in RAS as NIfTI wants (LPS with x and y negated).
// Three axes, or four where the map has several time points; their distance is not known and written as 1.
// `voxels` are the payload of DownloadResult. Errors: GEOMETRY_INVALID, LABEL_MAP_TYPE, LABEL_MAP_SIZE (the
// payload does not fit what `info` says), NIFTI_SIZE (an axis is too long for the format), OUTPUT.
absl::Status WriteLabelMap(const std::string& prefix, const v1::LabelMapInfo& info,
                           const std::string& voxels);

}  // namespace tomoserve::tomoctl
