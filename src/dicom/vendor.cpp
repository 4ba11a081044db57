#include "dicom/vendor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "dicom/csa.h"
#include "dicom/tags.h"

namespace tomoserve::dicom {
namespace {

using Vector3 = std::array<double, 3>;

constexpr std::string_view kSiemensHeader = "SIEMENS MR HEADER";
constexpr std::uint32_t kCsaImageHeader = 0x00291010;
constexpr std::int32_t kMaxTiles = 4096;
// Both normals describe one direction; the CSA header's has fewer digits.
constexpr double kMinCosine = 0.999;
constexpr double kUnitTolerance = 1e-2;
// GE adds this to b-values of newer releases.
constexpr std::int32_t kGeBValueOffset = 1'000'000'000;
constexpr double kMaxBValue = 1e5;

Vector3 Cross(const Vector3& a, const Vector3& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

double Dot(const Vector3& a, const Vector3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

bool IsUnit(const Vector3& a) { return std::abs(std::sqrt(Dot(a, a)) - 1) <= kUnitTolerance; }

std::string_view FirstValue(std::string_view raw) { return raw.substr(0, raw.find('\\')); }

std::span<const std::byte> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

struct MosaicSource {
  std::optional<std::int32_t> slices;
  bool slices_disagree = false;
  std::optional<Vector3> normal;
};

MosaicSource ReadMosaicSource(const HeaderValues& values) {
  MosaicSource source;
  if (const auto raw = values.Private(0x0029, "SIEMENS CSA HEADER", 0x10)) {
    const auto number = CsaValues(AsBytes(*raw), "NumberOfImagesInMosaic");
    if (number.ok() && !number->empty()) source.slices = ParseInteger(number->front());
    const auto normal = CsaValues(AsBytes(*raw), "SliceNormalVector");
    if (normal.ok() && normal->size() == 3) {
      Vector3 numbers{};
      bool all = true;
      for (std::size_t axis = 0; axis < 3; ++axis) {
        const auto value = ParseDecimal((*normal)[axis]);
        all = all && value;
        numbers[axis] = value.value_or(0);
      }
      if (all) source.normal = numbers;
    }
  }
  if (const auto raw = values.Private(0x0019, kSiemensHeader, 0x0A)) {
    const auto number = values.Unsigned16Of(*raw);
    if (number && source.slices) source.slices_disagree = *number != *source.slices;
    if (number && !source.slices) source.slices = *number;
  }
  return source;
}

std::optional<ipc::v1::Mosaic> MosaicOf(const MosaicSource& source, const HeaderValues& values,
                                        const ipc::v1::InstanceHeader& header) {
  if (!source.slices || source.slices_disagree || *source.slices < 1 || *source.slices > kMaxTiles) {
    return std::nullopt;
  }
  if (!source.normal || header.image_position_size() != 3 || header.image_orientation_size() != 6 ||
      header.pixel_spacing_mm_size() != 2 || header.frames() != 1) {
    return std::nullopt;
  }
  const auto gap = ParseDecimal(FirstValue(values.Raw(tag::kSpacingBetweenSlices).value_or("")));
  if (!gap || *gap <= 0) return std::nullopt;
  // The tiles form the smallest square that holds them.
  std::uint32_t across = 1;
  while (across * across < static_cast<std::uint32_t>(*source.slices)) ++across;
  if (header.rows() % across != 0 || header.columns() % across != 0) return std::nullopt;

  Vector3 row{};
  Vector3 column{};
  for (int axis = 0; axis < 3; ++axis) {
    row[static_cast<std::size_t>(axis)] = header.image_orientation(axis);
    column[static_cast<std::size_t>(axis)] = header.image_orientation(axis + 3);
  }
  const Vector3 normal = Cross(row, column);
  if (!IsUnit(row) || !IsUnit(column) || !IsUnit(normal) || !IsUnit(*source.normal)) return std::nullopt;
  const double cosine = Dot(normal, *source.normal);
  if (std::abs(cosine) < kMinCosine) return std::nullopt;

  ipc::v1::Mosaic mosaic;
  mosaic.set_slices(static_cast<std::uint32_t>(*source.slices));
  mosaic.set_tile_rows(header.rows() / across);
  mosaic.set_tile_columns(header.columns() / across);
  const double right =
      static_cast<double>(header.columns() - mosaic.tile_columns()) / 2 * header.pixel_spacing_mm(1);
  const double down =
      static_cast<double>(header.rows() - mosaic.tile_rows()) / 2 * header.pixel_spacing_mm(0);
  const double length = std::copysign(*gap / std::sqrt(Dot(normal, normal)), cosine);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double first =
        header.image_position(static_cast<int>(axis)) + row[axis] * right + column[axis] * down;
    const double step = normal[axis] * length;
    if (!std::isfinite(first) || !std::isfinite(step)) return std::nullopt;
    mosaic.add_first_position(first);
    mosaic.add_step(step);
  }
  return mosaic;
}

}  // namespace

void ReadMosaic(const HeaderValues& values, FieldReader& read, ipc::v1::InstanceHeader& header) {
  if (header.modality() != "MR" || header.kind() != ipc::v1::OBJECT_KIND_IMAGE) return;
  const bool labelled = std::find(header.image_type().begin(), header.image_type().end(), "MOSAIC") !=
                        header.image_type().end();
  const MosaicSource source = ReadMosaicSource(values);
  const bool several = source.slices_disagree || (source.slices && *source.slices > 1);
  if (!labelled) {
    if (several) {
      read.Repair("MOSAIC_UNLABELLED", kCsaImageHeader,
                  "private elements say mosaic, Image Type does not: taken for an ordinary image");
    }
    return;
  }
  if (auto mosaic = MosaicOf(source, values, header)) {
    *header.mutable_mosaic() = *std::move(mosaic);
    return;
  }
  read.Repair("MOSAIC_UNREADABLE", kCsaImageHeader, "where the slices of this mosaic lie cannot be read");
}

void ReadPrivateDiffusion(const HeaderValues& values, FieldReader& read, ipc::v1::InstanceHeader& header) {
  if (header.modality() != "MR" || header.has_diffusion_b_value()) return;
  std::optional<double> b_value;
  if (const auto raw = values.Private(0x0019, kSiemensHeader, 0x0C)) {
    b_value = ParseDecimal(FirstValue(*raw));
    const auto direction = values.Private(0x0019, kSiemensHeader, 0x0E);
    if (direction && header.diffusion_direction().empty()) {
      for (const double value : read.DoublesOf(0x0019100E, *direction, 3))
        header.add_diffusion_direction(value);
    }
  } else if (const auto ge = values.Private(0x0043, "GEMS_PARM_01", 0x39)) {
    if (const auto number = ParseInteger(FirstValue(*ge))) {
      b_value = *number >= kGeBValueOffset ? *number - kGeBValueOffset : *number;
    }
  } else if (const auto philips = values.Private(0x2001, "Philips Imaging DD 001", 0x03)) {
    if (const auto number = values.FloatOf(*philips)) b_value = double{*number};
  }
  if (b_value && *b_value >= 0 && *b_value <= kMaxBValue) header.set_diffusion_b_value(*b_value);
}

void NoticePrivateScaling(const HeaderValues& values, FieldReader& read) {
  constexpr std::string_view kText =
      "Philips' private scaling is there and is not used: values are stored x slope + intercept";
  if (values.Private(0x2005, "Philips MR Imaging DD 001", 0x0E)) {
    read.Repair("PRIVATE_SCALING_UNUSED", 0x2005100E, kText);
  }
  if (values.Private(0x7053, "Philips PET Private Group", 0x00)) {
    read.Repair("PRIVATE_SCALING_UNUSED", 0x70531000, kText);
  }
}

}  // namespace tomoserve::dicom
