// From instances to the frames that could be slices: classic images, enhanced multi-frame images (PS3.3
// C.7.6.16), Siemens mosaics. PS3.3 C.7.6.2 (plane), C.8.2.1 (CT), C.8.3.1 (MR), C.8.9.1 (PET).
#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "series/internal.h"

namespace tomoserve::series {
namespace {

using Numbers = google::protobuf::RepeatedField<double>;

// Classic, enhanced and legacy converted enhanced CT, MR and PET: three of each modality.
constexpr std::array<std::string_view, 9> kImageClasses = {
    "1.2.840.10008.5.1.4.1.1.2",   "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2",
    "1.2.840.10008.5.1.4.1.1.4",   "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4",
    "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128.1"};

// Length and right angle of the two cosines.
constexpr double kUnitTolerance = 1e-2;
constexpr double kOrthogonalTolerance = 1e-3;
// Beyond these no patient was measured: bounds that keep arithmetic on hostile headers finite, mm.
constexpr double kMaxPositionMm = 1e6;
constexpr double kMinPixelMm = 1e-4;
constexpr double kMaxPixelMm = 1e3;
// No series has more slices, no mosaic more tiles: bounds for hostile headers.
constexpr std::size_t kMaxSlices = 100'000;
constexpr std::uint32_t kMaxTiles = 4096;

constexpr std::array<std::string_view, 3> kModalities = {"CT", "MR", "PT"};

bool IsReadModality(const std::string& modality) {
  return std::find(kModalities.begin(), kModalities.end(), modality) != kModalities.end();
}

// The modality whose images are stored in this class; empty where it is none of those above.
std::string_view ModalityOfClass(const std::string& uid) {
  const auto at = std::find(kImageClasses.begin(), kImageClasses.end(), uid);
  if (at == kImageClasses.end()) return "";
  return kModalities[static_cast<std::size_t>(at - kImageClasses.begin()) / 3];
}

// Whether class and modality name one of the three, and the same one. A class may be missing.
bool IsSliceObject(const Header& header) {
  return IsReadModality(header.modality()) &&
         (header.sop_class_uid().empty() || ModalityOfClass(header.sop_class_uid()) == header.modality());
}

// Colour, palette or 1-bit pixels: screens and overlays that scanners store beside their slices. A slice with
// a damaged description of its pixels is none of these.
bool IsPicture(const Header& header) {
  const std::string& photometric = header.photometric();
  return header.samples_per_pixel() > 1 || header.bits_allocated() == 1 || photometric == "PALETTE COLOR" ||
         photometric == "RGB" || photometric == "ARGB" || photometric == "HSV" || photometric == "CMYK" ||
         photometric.starts_with("YBR_");
}

// Whether its frames' places stand in functional groups.
bool IsEnhanced(const Header& header) {
  const std::string& uid = header.sop_class_uid();
  const bool classic =
      uid.empty() || uid == kImageClasses[0] || uid == kImageClasses[3] || uid == kImageClasses[6];
  return !classic || header.frames() > 1 || header.frame_size() > 0;
}

tomoserve::v1::Reason Localizer() { return MakeReason("LOCALIZER", "", "Image Type says localizer"); }

bool IsLocalizer(const google::protobuf::RepeatedPtrField<std::string>& image_type) {
  return HasImageType(image_type, "LOCALIZER") || HasImageType(image_type, "SCOUT");
}

// Why an instance is not a slice, without blame for the series' volumes. An instance of a scanner's image
// class whose pixels are missing or cannot be read is a slice that is lost, and not harmless.
std::optional<tomoserve::v1::Reason> Harmless(const Header& header) {
  if (header.written_by_tomoserve()) {
    return MakeReason("OWN_OBJECT", "", "a result object of this software");
  }
  const bool claims_slice =
      !ModalityOfClass(header.sop_class_uid()).empty() && IsReadModality(header.modality());
  if (claims_slice && header.kind() != ipc::v1::OBJECT_KIND_IMAGE) {
    if (IsLocalizer(header.image_type())) return Localizer();
    if (!header.has_pixels() || !IsPicture(header)) return std::nullopt;
    return MakeReason("PICTURE", "", "colour, palette or 1-bit");
  }
  if (header.kind() == ipc::v1::OBJECT_KIND_PICTURE) {
    return MakeReason("PICTURE", "", "colour, palette, 1-bit or secondary capture");
  }
  if (header.kind() != ipc::v1::OBJECT_KIND_IMAGE) {
    return MakeReason("NOT_AN_IMAGE", "", "no image of a modality");
  }
  if (IsLocalizer(header.image_type())) return Localizer();
  return std::nullopt;
}

bool Within(const Numbers& values, double min, double max) {
  return std::all_of(values.begin(), values.end(),
                     [&](double value) { return value >= min && value <= max; });
}

std::optional<tomoserve::v1::Reason> PixelDefect(const Header& header) {
  if (!header.has_pixels()) return MakeReason("NO_PIXELS", "", "Pixel Data is missing");
  if (header.kind() != ipc::v1::OBJECT_KIND_IMAGE ||
      header.stored_type() == ipc::v1::STORED_TYPE_UNSPECIFIED || header.rows() == 0 ||
      header.columns() == 0) {
    return MakeReason("PIXELS_UNSUPPORTED", "",
                      "the pixels, or what they mean (a Modality LUT), cannot be part of a volume");
  }
  return std::nullopt;
}

// Puts `out` into the patient, or says why that cannot be done.
std::optional<tomoserve::v1::Reason> Place(const Numbers& position, const Numbers& orientation,
                                           const Numbers& spacing_mm, Candidate& out) {
  if (position.size() != 3 || orientation.size() != 6 || !Within(position, -kMaxPositionMm, kMaxPositionMm)) {
    return MakeReason("NO_POSITION", "",
                      "Image Position or Image Orientation (Patient) is missing or no number");
  }
  for (int axis = 0; axis < 3; ++axis) {
    const auto at = static_cast<std::size_t>(axis);
    out.position[at] = position[axis];
    out.row[at] = orientation[axis];
    out.column[at] = orientation[axis + 3];
  }
  const double row_length = Length(out.row);
  const double column_length = Length(out.column);
  // Written so that NaN fails.
  if (!(std::abs(row_length - 1) <= kUnitTolerance && std::abs(column_length - 1) <= kUnitTolerance)) {
    return MakeReason("ORIENTATION_INVALID", "", "the direction cosines are not unit vectors");
  }
  out.row = Times(out.row, 1 / row_length);
  out.column = Times(out.column, 1 / column_length);
  if (std::abs(Dot(out.row, out.column)) > kOrthogonalTolerance) {
    return MakeReason("ORIENTATION_INVALID", "", "the direction cosines are not at a right angle");
  }
  if (spacing_mm.size() != 2 || !Within(spacing_mm, kMinPixelMm, kMaxPixelMm)) {
    return MakeReason("NO_SPACING", "", "Pixel Spacing is missing or not positive");
  }
  out.row_spacing = spacing_mm[0];
  out.column_spacing = spacing_mm[1];
  return std::nullopt;
}

// Whether the tiles lie in the image, all of them.
bool IsValid(const ipc::v1::Mosaic& mosaic, const Header& header) {
  if (mosaic.tile_rows() == 0 || mosaic.tile_columns() == 0 || mosaic.step_size() != 3 ||
      mosaic.first_position_size() != 3 || !Within(mosaic.step(), -kMaxPositionMm, kMaxPositionMm)) {
    return false;
  }
  const std::uint64_t places =
      std::uint64_t{header.rows() / mosaic.tile_rows()} * (header.columns() / mosaic.tile_columns());
  return mosaic.slices() > 0 && mosaic.slices() <= std::min<std::uint64_t>(places, kMaxTiles);
}

// Counts by code, in order of code.
class SetAsideCounts {
 public:
  void Add(const tomoserve::v1::Reason& reason) {
    SetAside& entry = entries_[reason.code()];
    if (entry.count++ == 0) entry.reason = reason;
  }
  std::vector<SetAside> Result() const {
    std::vector<SetAside> out;
    for (const auto& [code, entry] : entries_) {
      out.push_back(entry);
      out.back().reason.set_value(absl::StrCat(entry.count));
    }
    return out;
  }

 private:
  std::map<std::string, SetAside> entries_;
};

class Sorter {
 public:
  void Add(const Known& known) {
    const Header& header = known.instance->header;
    if (const auto reason = Harmless(header)) return harmless_.Add(*reason);
    Candidate whole;
    whole.known = &known;
    if (!IsSliceObject(header)) {
      return GiveUp({"SOP_CLASS_UNSUPPORTED", header.sop_class_uid()}, 1, whole);
    }
    if (const auto reason = PixelDefect(header)) return Defective(whole, *reason);
    const std::size_t slices = std::max(static_cast<std::size_t>(header.frame_size()),
                                        std::size_t{std::min(header.mosaic().slices(), kMaxTiles)});
    if (sorted_.candidates.size() + std::max<std::size_t>(slices, 1) > kMaxSlices) {
      return Defective(whole,
                       MakeReason("TOO_MANY_SLICES", "", "the series has more slices than any volume"));
    }
    if (IsEnhanced(header)) return AddFrames(whole);
    if (header.has_mosaic() || HasImageType(header.image_type(), "MOSAIC")) return AddTiles(whole);
    Settle(Place(header.image_position(), header.image_orientation(), header.pixel_spacing_mm(), whole),
           whole);
  }

  SortedInstances Result() {
    sorted_.harmless = harmless_.Result();
    sorted_.fatal = fatal_.Result();
    return std::move(sorted_);
  }

 private:
  void AddFrames(Candidate& whole) {
    const Header& header = whole.known->instance->header;
    if (header.frame().empty()) {
      return GiveUp({"NO_FUNCTIONAL_GROUPS", ""}, std::max(1u, header.frames()), whole);
    }
    if (static_cast<std::uint32_t>(header.frame_size()) != std::max(1u, header.frames())) {
      return GiveUp({"FRAMES_INCONSISTENT", ""}, 1, whole);
    }
    const auto unframed = std::make_shared<Header>(header);
    unframed->clear_frame();
    whole.unframed = unframed;
    for (int n = 0; n < header.frame_size(); ++n) {
      const ipc::v1::FrameHeader& frame = header.frame(n);
      Candidate candidate = whole;
      candidate.frame = static_cast<std::uint32_t>(n);
      candidate.functional = &frame;
      if (IsLocalizer(frame.frame_type())) {
        harmless_.Add(Localizer());
      } else {
        Settle(Place(frame.image_position(), frame.image_orientation(), frame.pixel_spacing_mm(), candidate),
               candidate);
      }
    }
  }

  void AddTiles(Candidate& whole) {
    const Header& header = whole.known->instance->header;
    if (!header.has_mosaic()) return GiveUp({"MOSAIC", ""}, 1, whole);
    const ipc::v1::Mosaic& mosaic = header.mosaic();
    if (!IsValid(mosaic, header)) return GiveUp({"MOSAIC_INVALID", ""}, 1, whole);
    const std::uint32_t across = header.columns() / mosaic.tile_columns();
    for (std::uint32_t n = 0; n < mosaic.slices(); ++n) {
      Candidate candidate = whole;
      candidate.tile.emplace();
      candidate.tile->set_first_row(n / across * mosaic.tile_rows());
      candidate.tile->set_first_column(n % across * mosaic.tile_columns());
      candidate.tile->set_rows(mosaic.tile_rows());
      candidate.tile->set_columns(mosaic.tile_columns());
      Numbers position;
      for (int axis = 0; axis < 3; ++axis) {
        position.Add(mosaic.first_position(axis) + mosaic.step(axis) * static_cast<double>(n));
      }
      Settle(Place(position, header.image_orientation(), header.pixel_spacing_mm(), candidate), candidate);
    }
  }

  void Settle(const std::optional<tomoserve::v1::Reason>& defect, Candidate& candidate) {
    if (defect) return Defective(candidate, *defect);
    sorted_.candidates.push_back(std::move(candidate));
  }

  void Defective(Candidate& candidate, const tomoserve::v1::Reason& reason) {
    fatal_.Add(reason);
    sorted_.defective.push_back(std::move(candidate));
  }

  void GiveUp(const std::pair<std::string, std::string>& why, std::uint32_t amount, Candidate& whole) {
    Hopeless& entry = sorted_.hopeless[why];
    entry.amount += amount;
    entry.instances.push_back(std::move(whole));
  }

  SortedInstances sorted_;
  SetAsideCounts harmless_;
  SetAsideCounts fatal_;
};

}  // namespace

std::optional<double> Candidate::RescaleSlope() const {
  if (functional != nullptr) {
    return functional->has_rescale_slope() ? std::optional(functional->rescale_slope()) : std::nullopt;
  }
  return header().has_rescale_slope() ? std::optional(header().rescale_slope()) : std::nullopt;
}

std::optional<double> Candidate::RescaleIntercept() const {
  if (functional != nullptr) {
    return functional->has_rescale_intercept() ? std::optional(functional->rescale_intercept())
                                               : std::nullopt;
  }
  return header().has_rescale_intercept() ? std::optional(header().rescale_intercept()) : std::nullopt;
}

std::optional<double> Candidate::TriggerTimeMs() const {
  if (functional != nullptr) {
    return functional->has_trigger_time_ms() ? std::optional(functional->trigger_time_ms()) : std::nullopt;
  }
  return header().has_trigger_time_ms() ? std::optional(header().trigger_time_ms()) : std::nullopt;
}

std::optional<double> Candidate::SliceThicknessMm() const {
  if (functional != nullptr && functional->has_slice_thickness_mm()) return functional->slice_thickness_mm();
  return header().has_slice_thickness_mm() ? std::optional(header().slice_thickness_mm()) : std::nullopt;
}

std::optional<double> Candidate::Kvp() const {
  if (functional != nullptr && functional->has_kvp()) return functional->kvp();
  return header().has_kvp() ? std::optional(header().kvp()) : std::nullopt;
}

const std::string& Candidate::ConvolutionKernel() const {
  return functional != nullptr && !functional->convolution_kernel().empty() ? functional->convolution_kernel()
                                                                            : header().convolution_kernel();
}

const std::string& Candidate::BodyPart() const {
  return functional != nullptr && header().body_part().empty() ? functional->anatomic_region()
                                                               : header().body_part();
}

std::string Candidate::AcquisitionTime() const {
  if (functional == nullptr) return header().acquisition_time();
  constexpr std::size_t kDateDigits = 8;
  const std::string& datetime = functional->acquisition_datetime();
  return datetime.size() > kDateDigits ? datetime.substr(kDateDigits) : "";
}

const std::string& Candidate::RescaleType() const {
  return functional != nullptr ? functional->rescale_type() : header().rescale_type();
}

const google::protobuf::RepeatedPtrField<std::string>& Candidate::ImageType() const {
  return functional != nullptr && !functional->frame_type().empty() ? functional->frame_type()
                                                                    : header().image_type();
}

bool HasImageType(const google::protobuf::RepeatedPtrField<std::string>& values, std::string_view wanted) {
  return std::any_of(values.begin(), values.end(), [&](const std::string& value) {
    return absl::AsciiStrToUpper(absl::StripAsciiWhitespace(value)) == wanted;
  });
}

SortedInstances SortOut(const std::vector<Known>& instances) {
  Sorter sorter;
  for (const Known& known : instances) sorter.Add(known);
  return sorter.Result();
}

}  // namespace tomoserve::series
