// What vendors say in private elements: mosaics, diffusion, scaling.
#pragma once

#include "dicom/field_reader.h"
#include "dicom/values.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dicom {

// Fills header.mosaic of a Siemens mosaic: the slices of a volume as tiles of one image, which Image Type
// calls MOSAIC. Images derived from one keep its private elements: those alone make no mosaic, only a repair
// MOSAIC_UNLABELLED. The image's position
// is that of the mosaic as if it were one large slice around the same centre; the first tile's is
//   position + row * (columns - tile columns) / 2 * column spacing + column * (rows - tile rows) / 2 * row
//   spacing
// and the next ones lie along the slice normal of the CSA header, whose sign is the order of the tiles, by
// Spacing Between Slices (0018,0088). Where any of these is missing or contradicts another, there is no
// mosaic and a repair MOSAIC_UNREADABLE. Source: nibabel's nicom, which reads it the same way.
void ReadMosaic(const HeaderValues& values, FieldReader& read, ipc::v1::InstanceHeader& header);

// Fills diffusion_b_value, s/mm2, and of Siemens diffusion_direction, from private elements of Siemens, GE
// and Philips, where a classic MR image has no standard ones.
void ReadPrivateDiffusion(const HeaderValues& values, FieldReader& read, ipc::v1::InstanceHeader& header);

// Repairs PRIVATE_SCALING_UNUSED where Philips has a scaling of its own besides Rescale Slope: it is not
// used.
void NoticePrivateScaling(const HeaderValues& values, FieldReader& read);

}  // namespace tomoserve::dicom
