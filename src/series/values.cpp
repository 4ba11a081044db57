// What the stored values of a volume's slices mean. PS3.3 C.8.2.1.1.1 (CT Image Type), C.8.15.3 (multi-energy
// CT), C.8.9.1.1.3 (PET units), C.11.1.1.2 (rescale).
#include <algorithm>
#include <array>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "series/internal.h"
#include "tomoserve/base/stored_type.h"

namespace tomoserve::series {
namespace {

// Parts of Image Type values of CT images that are computed from others and hold no Hounsfield units: the
// standard's terms for multi-energy and perfusion images, and what vendors write.
constexpr std::array<std::string_view, 13> kNotHu = {
    "IODINE",   "ZEFF",         "Z_EFF",          "Z EFF",     "EFF_ATOMIC", "EFFECTIVE ATOMIC",
    "ELECTRON", "MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE", "CBF",        "CBV",
    "MTT"};

// Rescale Type terms that may be shown; others may hold anything.
constexpr std::array<std::string_view, 9> kShownTypes = {"OD",     "MGML", "Z_EFF", "ED",      "EDW",
                                                         "HU_MOD", "PCT",  "GML",   "PROPCNTS"};

std::string Upper(const std::string& text) { return absl::AsciiStrToUpper(absl::StripAsciiWhitespace(text)); }

void Remark(Volume& volume, std::string_view code, std::string_view value, std::string_view text) {
  volume.reasons.push_back(MakeReason(code, value, text));
}

// Whether stored * slope + intercept is a float for every value of the stored type. The worker asks the same.
bool GivesFloats(const Candidate& slice, double slope, double intercept) {
  const auto bits = static_cast<int>(8 * base::BytesOf(slice.header().stored_type()));
  // Written so that NaN fails.
  return std::abs(slope) * std::ldexp(1.0, bits) + std::abs(intercept) <= std::numeric_limits<float>::max();
}

void JudgeRescale(const std::vector<Candidate>& slices, Volume& volume) {
  std::uint32_t invalid = 0;
  std::uint32_t incomplete = 0;  // lacks one of the two, or both
  std::uint32_t without = 0;     // lacks both
  bool alike = true;             // all slices have, and lack, the same
  const bool slopes = slices.front().RescaleSlope().has_value();
  const bool intercepts = slices.front().RescaleIntercept().has_value();
  for (const Candidate& slice : slices) {
    const auto slope = slice.RescaleSlope();
    const auto intercept = slice.RescaleIntercept();
    if (!slope && !intercept) ++without;
    if (!slope || !intercept) ++incomplete;
    alike = alike && slope.has_value() == slopes && intercept.has_value() == intercepts;
    if (slope.value_or(1) == 0 || !GivesFloats(slice, slope.value_or(1), intercept.value_or(0))) ++invalid;
  }
  if (invalid > 0) {
    RejectFor(volume, "RESCALE_INVALID", absl::StrCat(invalid),
              "Rescale Slope is 0, or slope and intercept do not give finite values");
  }
  if (!alike) {
    RejectFor(volume, "MIXED_RESCALE", absl::StrCat(incomplete),
              "slices without Rescale Slope or Intercept beside slices with it");
    return;
  }
  if (slices.front().header().modality() != "CT") return;
  if (without == 0 && incomplete > 0) {
    // Where both are missing the writer stored Hounsfield units or it knew no better; where one is, it was
    // lost, and the values may be wrong by 1024 HU or by a factor.
    RejectFor(volume, "RESCALE_INVALID", absl::StrCat(incomplete),
              "one of Rescale Slope and Rescale Intercept without the other");
  }
  if (without > 0) {
    Remark(volume, "NO_RESCALE", absl::StrCat(without),
           "no Rescale Slope and Intercept: stored values are taken as they are");
  }
}

// Why a slice's values are no Hounsfield units: a term that may be shown, or an empty one. Nothing where they
// may be some.
std::optional<std::string> NotHu(const Candidate& slice) {
  for (const std::string& value : slice.ImageType()) {
    const std::string upper = Upper(value);
    const auto term = std::find_if(kNotHu.begin(), kNotHu.end(), [&](std::string_view part) {
      return upper.find(part) != std::string::npos;
    });
    if (term != kNotHu.end()) return std::string(*term);
  }
  const std::string type = Upper(slice.RescaleType());
  if (type.empty() || type == "HU" || type == "US") return std::nullopt;
  return std::find(kShownTypes.begin(), kShownTypes.end(), type) != kShownTypes.end() ? type : std::string();
}

void JudgeUnit(const std::vector<Candidate>& slices, Volume& volume) {
  const std::string& modality = slices.front().header().modality();
  if (modality == "PT") {
    volume.unit = Upper(slices.front().header().pet().units());
    const bool mixed = std::any_of(slices.begin(), slices.end(), [&](const Candidate& slice) {
      return Upper(slice.header().pet().units()) != volume.unit;
    });
    if (mixed) {
      volume.unit.clear();
      RejectFor(volume, "MIXED_UNITS", "", "slices in different units");
    }
  }
  if (modality != "CT") return;
  for (const Candidate& slice : slices) {
    const auto not_hu = NotHu(slice);
    if (!not_hu) continue;
    return Remark(volume, "NOT_HU", *not_hu,
                  "Image Type or Rescale Type says that the values are no Hounsfield units");
  }
  volume.unit = "HU";
}

}  // namespace

void FillSlices(const std::vector<Candidate>& slices, Volume& volume) {
  volume.slices.clear();
  if (slices.empty()) return;
  const Candidate& first = slices.front();
  volume.stored_size_ij = {first.columns(), first.rows()};
  Header& representative = volume.representative;
  representative = first.header();
  *representative.mutable_image_type() = first.ImageType();
  representative.set_rescale_type(first.RescaleType());
  representative.set_rows(first.rows());
  representative.set_columns(first.columns());
  if (const ipc::v1::FrameHeader* frame = first.functional) {
    *representative.mutable_image_position() = frame->image_position();
    *representative.mutable_image_orientation() = frame->image_orientation();
    *representative.mutable_pixel_spacing_mm() = frame->pixel_spacing_mm();
    representative.set_convolution_kernel(first.ConvolutionKernel());
    representative.set_body_part(first.BodyPart());
    if (const auto kvp = first.Kvp()) representative.set_kvp(*kvp);
    if (frame->has_slice_thickness_mm()) representative.set_slice_thickness_mm(frame->slice_thickness_mm());
    if (frame->has_temporal_position()) representative.set_temporal_position(frame->temporal_position());
    if (frame->has_acquisition_number()) representative.set_acquisition_number(frame->acquisition_number());
    if (frame->has_echo_time_ms()) representative.set_echo_time_ms(frame->echo_time_ms());
    if (frame->has_trigger_time_ms()) representative.set_trigger_time_ms(frame->trigger_time_ms());
    if (frame->has_diffusion_b_value()) representative.set_diffusion_b_value(frame->diffusion_b_value());
    *representative.mutable_diffusion_direction() = frame->diffusion_direction();
  }
  bool lossy = false;
  double ratio = 0;
  for (const Candidate& slice : slices) {
    const Header& header = slice.header();
    VolumeSlice& out = volume.slices.emplace_back();
    out.index = slice.known->instance->index;
    out.frame = slice.frame;
    out.stored_type = header.stored_type();
    out.slope = slice.RescaleSlope().value_or(1);
    out.intercept = slice.RescaleIntercept().value_or(0);
    out.sop_instance_uid = slice.known->sop_instance_uid;
    out.tile = slice.tile;
    lossy = lossy || header.lossy();
    ratio = std::max(ratio, header.lossy_ratio());
  }
  representative.set_lossy(lossy);
  representative.set_lossy_ratio(ratio);
}

void JudgeValues(const std::vector<Candidate>& slices, Volume& volume) {
  JudgeRescale(slices, volume);
  JudgeUnit(slices, volume);
  if (!volume.representative.lossy()) return;
  const double ratio = volume.representative.lossy_ratio();
  Remark(volume, "LOSSY", ratio > 0 && std::isfinite(ratio) ? absl::StrCat(ratio) : "",
         "the images went through lossy compression (the ratio, where it is stated)");
}

}  // namespace tomoserve::series
