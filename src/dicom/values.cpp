#include "dicom/values.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <utility>

#include "dicom/errors.h"
#include "dicom/tags.h"
#include "dicom/tokenizer.h"

namespace tomoserve::dicom {
namespace {

// Blocks of private elements that are looked at: (gggg,0010) to (gggg,001F) reserve (gggg,10xx) to
// (gggg,1Fxx).
constexpr std::uint32_t kFirstBlock = 0x10;
constexpr std::uint32_t kLastBlock = 0x1F;

// Group and low byte of the private elements that the header pass reads, ascending.
constexpr std::array<std::pair<std::uint16_t, std::uint8_t>, 8> kPrivateElements = {{
    {0x0019, 0x0A},  // SIEMENS MR HEADER: number of images in a mosaic
    {0x0019, 0x0C},  // same: b-value
    {0x0019, 0x0E},  // same: gradient direction
    {0x0029, 0x10},  // SIEMENS CSA HEADER: image header
    {0x0043, 0x39},  // GEMS_PARM_01: b-value
    {0x2001, 0x03},  // Philips Imaging DD 001: b-value
    {0x2005, 0x0E},  // Philips MR Imaging DD 001: scale slope
    {0x7053, 0x00},  // Philips PET Private Group: SUV scale factor
}};

constexpr std::uint64_t Key(std::uint32_t sequence, std::uint32_t element) {
  return static_cast<std::uint64_t>(sequence) << 32 | element;
}

// Ascending.
constexpr std::array kHeaderElements = {
    Key(0, tag::kTransferSyntaxUid),
    Key(0, tag::kSpecificCharacterSet),
    Key(0, tag::kImageType),
    Key(0, tag::kSopClassUid),
    Key(0, tag::kSopInstanceUid),
    Key(0, tag::kStudyDate),
    Key(0, tag::kSeriesDate),
    Key(0, tag::kAcquisitionDate),
    Key(0, tag::kStudyTime),
    Key(0, tag::kSeriesTime),
    Key(0, tag::kAcquisitionTime),
    Key(0, tag::kAccessionNumber),
    Key(0, tag::kModality),
    Key(0, tag::kManufacturer),
    Key(0, tag::kInstitutionName),
    Key(0, tag::kTimezoneOffset),
    Key(0, tag::kStationName),
    Key(0, tag::kSeriesDescription),
    Key(0, tag::kPatientName),
    Key(0, tag::kPatientId),
    Key(0, tag::kIssuerOfPatientId),
    Key(0, tag::kPatientBirthDate),
    Key(0, tag::kPatientSex),
    Key(0, tag::kPatientAge),
    Key(0, tag::kPatientWeight),
    Key(0, tag::kContrastAgent),
    Key(0, tag::kBodyPart),
    Key(0, tag::kSliceThickness),
    Key(0, tag::kKvp),
    Key(0, tag::kEchoTime),
    Key(0, tag::kEchoNumbers),
    Key(0, tag::kSpacingBetweenSlices),
    Key(0, tag::kProtocolName),
    Key(0, tag::kTriggerTime),
    Key(0, tag::kGantryTilt),
    Key(0, tag::kConvolutionKernel),
    Key(0, tag::kDiffusionBValue),
    Key(0, tag::kDiffusionGradientOrientation),
    Key(0, tag::kStudyInstanceUid),
    Key(0, tag::kSeriesInstanceUid),
    Key(0, tag::kSeriesNumber),
    Key(0, tag::kAcquisitionNumber),
    Key(0, tag::kInstanceNumber),
    Key(0, tag::kImagePosition),
    Key(0, tag::kImageOrientation),
    Key(0, tag::kFrameOfReferenceUid),
    Key(0, tag::kTemporalPosition),
    Key(0, tag::kSamplesPerPixel),
    Key(0, tag::kPhotometric),
    Key(0, tag::kNumberOfFrames),
    Key(0, tag::kRows),
    Key(0, tag::kColumns),
    Key(0, tag::kPixelSpacing),
    Key(0, tag::kCorrectedImage),
    Key(0, tag::kBitsAllocated),
    Key(0, tag::kBitsStored),
    Key(0, tag::kHighBit),
    Key(0, tag::kPixelRepresentation),
    Key(0, tag::kPixelPaddingValue),
    Key(0, tag::kRescaleIntercept),
    Key(0, tag::kRescaleSlope),
    Key(0, tag::kRescaleType),
    Key(0, tag::kLossyImageCompression),
    Key(0, tag::kLossyRatio),
    Key(0, tag::kRequestedProcedureId),
    Key(0, tag::kPlacerOrderNumber),
    Key(0, tag::kFillerOrderNumber),
    Key(0, tag::kPetUnits),
    Key(0, tag::kSuvType),
    Key(0, tag::kDecayCorrection),
    Key(tag::kIssuerOfAccessionNumberSequence, tag::kLocalNamespaceEntityId),
    Key(tag::kContrastAgentSequence, tag::kCodeMeaning),
    Key(tag::kContributingEquipmentSequence, tag::kManufacturer),
    Key(tag::kRequestAttributesSequence, tag::kRequestedProcedureId),
    Key(tag::kRadiopharmaceuticalInformationSequence, tag::kRadiopharmaceuticalStartTime),
    Key(tag::kRadiopharmaceuticalInformationSequence, tag::kRadionuclideTotalDose),
    Key(tag::kRadiopharmaceuticalInformationSequence, tag::kRadionuclideHalfLife),
    Key(tag::kRadiopharmaceuticalInformationSequence, tag::kRadiopharmaceuticalStartDateTime),
};
static_assert(std::is_sorted(kHeaderElements.begin(), kHeaderElements.end()));

}  // namespace

bool IsHeaderElement(std::uint32_t sequence, std::uint32_t element) {
  return std::binary_search(kHeaderElements.begin(), kHeaderElements.end(), Key(sequence, element));
}

bool IsPrivateHeaderElement(std::uint32_t element) {
  const auto group = static_cast<std::uint16_t>(element >> 16);
  const std::uint32_t number = element & 0xFFFF;
  if (number >= kFirstBlock && number <= kLastBlock) {
    return std::any_of(kPrivateElements.begin(), kPrivateElements.end(),
                       [&](const auto& known) { return known.first == group; });
  }
  const std::uint32_t block = number >> 8;
  return block >= kFirstBlock && block <= kLastBlock &&
         std::binary_search(kPrivateElements.begin(), kPrivateElements.end(),
                            std::pair(group, static_cast<std::uint8_t>(number & 0xFF)));
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kPadding(" \0", 2);
  const std::size_t begin = text.find_first_not_of(kPadding);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kPadding) - begin + 1);
}

std::vector<std::string_view> SplitValues(std::string_view text) {
  std::vector<std::string_view> values;
  if (text.empty()) return values;
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = text.find('\\', begin);
    values.push_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return values;
    begin = end + 1;
  }
}

std::optional<double> ParseDecimal(std::string_view text) {
  text = Trim(text);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  // from_chars reads "inf" and "nan" too.
  if (text.empty() || text.find_first_not_of("+-0123456789.eE") != std::string_view::npos)
    return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<std::int32_t> ParseInteger(std::string_view text) {
  text = Trim(text);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  std::int32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::string_view> HeaderValues::Raw(std::uint32_t element, std::uint32_t sequence,
                                                  std::uint32_t item) const {
  for (const HeaderElement& candidate : layout_.elements) {
    if (candidate.tag == element && candidate.sequence == sequence && candidate.item == item) {
      const auto bytes = file_.subspan(candidate.value.offset, candidate.value.length);
      return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
  }
  return std::nullopt;
}

std::optional<std::uint16_t> HeaderValues::Unsigned16(std::uint32_t element) const {
  return Unsigned16Of(Raw(element).value_or(""));
}

std::optional<double> HeaderValues::Double(std::uint32_t element) const {
  return DoubleOf(Raw(element).value_or(""));
}

std::optional<std::string_view> HeaderValues::Private(std::uint16_t group, std::string_view creator,
                                                      std::uint8_t number) const {
  for (std::uint32_t block = kFirstBlock; block <= kLastBlock; ++block) {
    const std::uint32_t base = static_cast<std::uint32_t>(group) << 16;
    if (Trim(Raw(base | block).value_or("")) != creator) continue;
    if (const auto raw = Raw(base | block << 8 | number)) return raw;
  }
  return std::nullopt;
}

std::optional<std::uint16_t> HeaderValues::Unsigned16Of(std::string_view raw) const {
  if (raw.size() < 2) return std::nullopt;
  return Load16(reinterpret_cast<const std::byte*>(raw.data()), layout_.big_endian);
}

std::optional<std::uint32_t> HeaderValues::Unsigned32Of(std::string_view raw) const {
  if (raw.size() < 4) return std::nullopt;
  return Load32(reinterpret_cast<const std::byte*>(raw.data()), layout_.big_endian);
}

std::optional<float> HeaderValues::FloatOf(std::string_view raw) const {
  const auto bits = Unsigned32Of(raw);
  if (!bits || !std::isfinite(std::bit_cast<float>(*bits))) return std::nullopt;
  return std::bit_cast<float>(*bits);
}

std::optional<double> HeaderValues::DoubleOf(std::string_view raw) const {
  if (raw.size() < 8) return std::nullopt;
  const auto* bytes = reinterpret_cast<const std::byte*>(raw.data());
  const std::uint64_t first = Load32(bytes, layout_.big_endian);
  const std::uint64_t second = Load32(bytes + 4, layout_.big_endian);
  const auto value = std::bit_cast<double>(layout_.big_endian ? first << 32 | second : second << 32 | first);
  if (!std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace tomoserve::dicom
