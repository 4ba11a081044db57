#include "dicom/functional_groups.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dicom/errors.h"
#include "dicom/tags.h"
#include "tomoserve/ipc/header_limits.h"

namespace tomoserve::dicom {
namespace {

using ipc::v1::FrameHeader;

constexpr std::uint32_t kMaxFrames = ipc::kMaxHeaderFrames;
// Longest value that any of them could have.
constexpr std::uint64_t kMaxValueBytes = 1024;
constexpr std::size_t kMaxDimensions = 16;

// Private functional group of Philips with the attributes of a classic image.
constexpr std::uint32_t kPhilipsClassicSequence = 0x2005140F;
constexpr std::uint32_t kPhilipsScaleSlope = 0x2005100E;

// A value in the item of a functional group, or of a sequence in it.
struct GroupPath {
  std::uint32_t group = 0;   // the functional group's sequence
  std::uint32_t nested = 0;  // a sequence in its item, or 0
  std::uint32_t tag = 0;
  // Only recipes ask for it: what is beside the rules is left out and refuses nothing. Items after the first
  // are others (of a CT with two sources).
  bool optional = false;
};

constexpr std::array kPaths = {
    GroupPath{tag::kPlanePositionSequence, 0, tag::kImagePosition},
    GroupPath{tag::kPlaneOrientationSequence, 0, tag::kImageOrientation},
    GroupPath{tag::kPixelMeasuresSequence, 0, tag::kPixelSpacing},
    GroupPath{tag::kPixelMeasuresSequence, 0, tag::kSliceThickness},
    GroupPath{tag::kPixelValueTransformationSequence, 0, tag::kRescaleSlope},
    GroupPath{tag::kPixelValueTransformationSequence, 0, tag::kRescaleIntercept},
    GroupPath{tag::kPixelValueTransformationSequence, 0, tag::kRescaleType},
    GroupPath{tag::kFrameContentSequence, 0, tag::kTemporalPositionIndex},
    GroupPath{tag::kFrameContentSequence, 0, tag::kStackId},
    GroupPath{tag::kFrameContentSequence, 0, tag::kFrameAcquisitionNumber},
    GroupPath{tag::kFrameContentSequence, 0, tag::kDimensionIndexValues},
    GroupPath{tag::kMrEchoSequence, 0, tag::kEffectiveEchoTime},
    GroupPath{tag::kCardiacSynchronizationSequence, 0, tag::kNominalCardiacTriggerDelayTime},
    GroupPath{tag::kMrDiffusionSequence, 0, tag::kDiffusionBValue},
    GroupPath{tag::kMrDiffusionSequence, tag::kDiffusionGradientDirectionSequence,
              tag::kDiffusionGradientOrientation},
    GroupPath{tag::kCtImageFrameTypeSequence, 0, tag::kFrameType},
    GroupPath{tag::kMrImageFrameTypeSequence, 0, tag::kFrameType},
    GroupPath{tag::kPetFrameTypeSequence, 0, tag::kFrameType},
    GroupPath{tag::kMrImageFrameTypeSequence, 0, tag::kComplexImageComponent},
    GroupPath{tag::kFrameContentSequence, 0, tag::kFrameAcquisitionDateTime, true},
    GroupPath{tag::kCtXRayDetailsSequence, 0, tag::kKvp, true},
    GroupPath{tag::kCtReconstructionSequence, 0, tag::kConvolutionKernel, true},
    GroupPath{tag::kFrameAnatomySequence, tag::kAnatomicRegionSequence, tag::kCodeMeaning, true},
    GroupPath{kPhilipsClassicSequence, 0, kPhilipsScaleSlope, true},
};
static_assert(kPaths.size() <= 32, "a set of them is a 32 bit mask");

template <typename Values>
void Assign(const Values& values, google::protobuf::RepeatedField<double>& field) {
  field.Assign(values.begin(), values.end());
}

absl::Status TooLarge() {
  return Refuse("HEADER_TOO_LARGE", ipc::kMaxHeaderFrameBytes,
                "the values of all frames together are larger than the limit");
}

// Reads values into the header of a frame, or into the one of what all frames share.
class FrameReader {
 public:
  FrameReader(const HeaderValues& values, FieldReader& read) : values_(values), read_(read) {}

  absl::Status Set(std::uint32_t element, std::string_view raw, FrameHeader& frame) {
    switch (element) {
      case tag::kImagePosition:
        Assign(read_.DecimalsOf(element, raw, 3), *frame.mutable_image_position());
        break;
      case tag::kImageOrientation:
        Assign(read_.DecimalsOf(element, raw, 6), *frame.mutable_image_orientation());
        break;
      case tag::kPixelSpacing:
        Assign(read_.DecimalsOf(element, raw, 2), *frame.mutable_pixel_spacing_mm());
        break;
      case tag::kSliceThickness:
        frame.clear_slice_thickness_mm();
        if (const auto value = read_.DecimalOf(element, raw)) frame.set_slice_thickness_mm(*value);
        break;
      case tag::kRescaleSlope:
      case tag::kRescaleIntercept:
        return SetRescale(element, raw, frame);
      case tag::kRescaleType:
        frame.set_rescale_type(Short(read_.TextOf(element, raw)));
        break;
      case tag::kStackId:
        frame.set_stack_id(Short(read_.TextOf(element, raw)));
        break;
      case tag::kFrameType:
        frame.clear_frame_type();
        for (std::string& value : read_.CodesOf(element, raw)) frame.add_frame_type(std::move(value));
        break;
      case tag::kComplexImageComponent:
        frame.set_complex_image_component(Short(read_.CodeOf(element, raw)));
        break;
      case tag::kFrameAcquisitionDateTime:
        frame.set_acquisition_datetime(Short(read_.CodeOf(element, raw)));
        break;
      case tag::kKvp:
        frame.clear_kvp();
        if (const auto value = read_.DecimalOf(element, raw)) frame.set_kvp(*value);
        break;
      case tag::kConvolutionKernel:
        frame.set_convolution_kernel(Short(read_.TextOf(element, raw)));
        break;
      case tag::kCodeMeaning:
        frame.set_anatomic_region(Short(read_.TextOf(element, raw)));
        break;
      case kPhilipsScaleSlope:
        read_.Repair("PRIVATE_SCALING_UNUSED", element,
                     "Philips' private scale slope is there and is not used: values are stored x slope");
        break;
      default:
        SetBinary(element, raw, frame);
    }
    return absl::OkStatus();
  }

 private:
  // Without these two a stored value has no meaning.
  absl::Status SetRescale(std::uint32_t element, std::string_view raw, FrameHeader& frame) {
    // An empty value of the frame's own is no value, whatever the shared one is.
    const bool is_slope = element == tag::kRescaleSlope;
    if (is_slope) {
      frame.clear_rescale_slope();
    } else {
      frame.clear_rescale_intercept();
    }
    const std::string_view text = Trim(raw);
    if (text.empty()) return absl::OkStatus();
    const auto number = ParseDecimal(text);
    if (!number) return Refuse("MALFORMED", TagName(element), "the rescale slope or intercept is no number");
    if (is_slope) {
      frame.set_rescale_slope(*number);
    } else {
      frame.set_rescale_intercept(*number);
    }
    return absl::OkStatus();
  }

  // VR US, UL and FD.
  void SetBinary(std::uint32_t element, std::string_view raw, FrameHeader& frame) {
    switch (element) {
      case tag::kTemporalPositionIndex:
        frame.clear_temporal_position();
        if (const auto value = values_.Unsigned32Of(raw)) {
          frame.set_temporal_position(static_cast<std::int32_t>(*value & 0x7FFFFFFF));
        }
        break;
      case tag::kFrameAcquisitionNumber:
        frame.clear_acquisition_number();
        if (const auto value = values_.Unsigned16Of(raw)) frame.set_acquisition_number(*value);
        break;
      case tag::kDimensionIndexValues:
        frame.clear_dimension_index_values();
        for (; raw.size() >= 4; raw.remove_prefix(4)) {
          if (static_cast<std::size_t>(frame.dimension_index_values_size()) == kMaxDimensions) break;
          frame.add_dimension_index_values(*values_.Unsigned32Of(raw));
        }
        break;
      case tag::kEffectiveEchoTime:
        frame.clear_echo_time_ms();
        if (const auto value = Double(element, raw)) frame.set_echo_time_ms(*value);
        break;
      case tag::kNominalCardiacTriggerDelayTime:
        frame.clear_trigger_time_ms();
        if (const auto value = Double(element, raw)) frame.set_trigger_time_ms(*value);
        break;
      case tag::kDiffusionBValue:
        frame.clear_diffusion_b_value();
        if (const auto value = Double(element, raw)) frame.set_diffusion_b_value(*value);
        break;
      case tag::kDiffusionGradientOrientation:
        Assign(read_.DoublesOf(element, raw, 3), *frame.mutable_diffusion_direction());
        break;
      default:
        break;
    }
  }

  std::optional<double> Double(std::uint32_t element, std::string_view raw) {
    const std::vector<double> number = read_.DoublesOf(element, raw.substr(0, sizeof(double)), 1);
    return number.empty() ? std::nullopt : std::optional(number.front());
  }

  static std::string Short(const std::string& text) {
    return std::string(CutUtf8(text, ipc::kMaxFrameTextBytes));
  }

  const HeaderValues& values_;
  FieldReader& read_;
};

}  // namespace

bool IsGroupSequence(std::uint32_t element) {
  if (element == tag::kSharedFunctionalGroupsSequence || element == tag::kPerFrameFunctionalGroupsSequence) {
    return true;
  }
  return std::any_of(kPaths.begin(), kPaths.end(),
                     [&](const GroupPath& path) { return path.group == element || path.nested == element; });
}

absl::Status KeepGroupValue(std::span<const Step> path, std::uint32_t element, ByteRange value,
                            FileLayout& layout) {
  const bool is_shared = path[0].sequence == tag::kSharedFunctionalGroupsSequence;
  if (!is_shared) layout.frame_items = std::max(layout.frame_items, path[0].item + 1);
  if (path.size() < 2 || path.size() > 3) return absl::OkStatus();
  const std::uint32_t nested = path.size() == 3 ? path[2].sequence : 0;
  const auto known = std::find_if(kPaths.begin(), kPaths.end(), [&](const GroupPath& candidate) {
    return candidate.tag == element && candidate.group == path[1].sequence && candidate.nested == nested;
  });
  if (known == kPaths.end()) return absl::OkStatus();
  if (is_shared && path[0].item > 0) {
    return Refuse("MALFORMED", TagName(path[0].sequence), "shared functional groups have one item only");
  }
  for (const Step& step : path.subspan(1)) {
    if (step.item > 0) {
      if (known->optional) return absl::OkStatus();
      return Refuse("MALFORMED", TagName(step.sequence), "a functional group has one item only");
    }
  }
  if (value.length > kMaxValueBytes) {
    if (known->optional) return absl::OkStatus();
    return Refuse("MALFORMED", TagName(element), "a short value is longer than any valid one");
  }
  layout.group_values.push_back({is_shared ? GroupValue::kShared : path[0].item,
                                 static_cast<std::uint32_t>(known - kPaths.begin()), value});
  return absl::OkStatus();
}

absl::Status ReadFrames(std::span<const std::byte> file, const FileLayout& layout, const HeaderValues& values,
                        FieldReader& read, ipc::v1::InstanceHeader& header) {
  if (layout.frame_items == 0) return absl::OkStatus();
  const std::uint32_t frames = layout.pixels.frames;
  if (frames > kMaxFrames) {
    return Refuse("TOO_MANY_FRAMES", kMaxFrames, "the file has more frames than the limit");
  }
  if (layout.frame_items != frames) {
    return Refuse("MALFORMED", TagName(tag::kPerFrameFunctionalGroupsSequence),
                  "there is not one item of functional groups for each frame");
  }
  const auto raw_of = [&](const ByteRange& range) {
    const auto bytes = file.subspan(range.offset, range.length);
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  FrameReader reader(values, read);
  // Which values the shared item (the last entry) and each frame's have.
  std::vector<std::uint32_t> seen(frames + 1);
  const auto set = [&](const GroupValue& value, std::uint32_t place, FrameHeader& frame) -> absl::Status {
    const std::uint32_t bit = 1u << value.field;
    if ((seen[place] & bit) != 0) {
      if (kPaths[value.field].optional) return absl::OkStatus();
      return Refuse("MALFORMED", TagName(kPaths[value.field].tag), "an element is there twice");
    }
    seen[place] |= bit;
    return reader.Set(kPaths[value.field].tag, raw_of(value.value), frame);
  };
  FrameHeader shared;
  for (const GroupValue& value : layout.group_values) {
    if (value.frame == GroupValue::kShared) TS_RETURN_IF_ERROR(set(value, frames, shared));
  }
  std::uint64_t bytes = std::uint64_t{shared.ByteSizeLong()} * frames;
  if (bytes > ipc::kMaxHeaderFrameBytes) return TooLarge();
  header.mutable_frame()->Reserve(static_cast<int>(frames));
  for (std::uint32_t i = 0; i < frames; ++i) *header.add_frame() = shared;
  for (const GroupValue& value : layout.group_values) {
    if (value.frame == GroupValue::kShared) continue;
    FrameHeader& frame = *header.mutable_frame(static_cast<int>(value.frame));
    bytes -= frame.ByteSizeLong();
    TS_RETURN_IF_ERROR(set(value, value.frame, frame));
    bytes += frame.ByteSizeLong();
    if (bytes > ipc::kMaxHeaderFrameBytes) return TooLarge();
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::dicom
