#include "tomoserve/dicom/header.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "dicom/codestream.h"
#include "dicom/errors.h"
#include "dicom/tags.h"
#include "dicom/text.h"
#include "dicom/values.h"
#include "tomoserve/dicom/decode.h"

namespace tomoserve::dicom {
namespace {

using ipc::v1::InstanceHeader;

// All texts, values and repairs of a header must fit one record of 64 KiB.
constexpr std::size_t kMaxTextBytes = 1024;
constexpr std::size_t kMaxValues = 16;
constexpr int kMaxRepairs = 32;

constexpr std::string_view kTextDelimiters = "\\";
constexpr std::string_view kNameDelimiters = "\\^=";

// Reads values into fields and lists what it repairs.
class FieldReader {
 public:
  FieldReader(const HeaderValues& values, InstanceHeader& header)
      : values_(values), header_(header), decoder_(values.Raw(tag::kSpecificCharacterSet).value_or("")) {}

  void Repair(std::string_view code, std::uint32_t element, std::string_view text) {
    if (header_.repairs_size() >= kMaxRepairs) return;
    ipc::v1::Refusal& repair = *header_.add_repairs();
    repair.set_code(std::string(code));
    repair.set_value(TagName(element));
    repair.set_text(std::string(text));
  }

  // LO, SH, PN, ...: by the declared character set.
  std::string Text(std::uint32_t element, std::uint32_t sequence = 0, std::uint32_t item = 0,
                   std::string_view delimiters = kTextDelimiters) {
    const std::string_view raw = Trim(values_.Raw(element, sequence, item).value_or(""));
    return Checked(element, decoder_.Decode(raw, delimiters));
  }

  std::string Name(std::uint32_t element) { return Text(element, 0, 0, kNameDelimiters); }

  // CS, UI, DA, TM, AS: ASCII whatever the character set.
  std::string Code(std::uint32_t element) { return CodeOf(element, values_.Raw(element).value_or("")); }

  template <typename Add>
  void Codes(std::uint32_t element, Add add) {
    const auto all = SplitValues(Trim(values_.Raw(element).value_or("")));
    for (std::size_t i = 0; i < std::min(all.size(), kMaxValues); ++i) add(CodeOf(element, all[i]));
  }

  // First value of an IS; none where absent or malformed.
  std::optional<std::int32_t> Integer(std::uint32_t element) {
    const std::string_view first = First(element);
    if (first.empty()) return std::nullopt;
    const auto value = ParseInteger(first);
    if (!value) Repair("MALFORMED_VALUE", element, "a number is malformed and was left out");
    return value;
  }

  // First value of a DS; none where absent or malformed.
  std::optional<double> Decimal(std::uint32_t element) {
    const std::string_view first = First(element);
    if (first.empty()) return std::nullopt;
    const auto value = ParseDecimal(first);
    if (!value) Repair("MALFORMED_VALUE", element, "a number is malformed and was left out");
    return value;
  }

  // Exactly `count` DS values, or none.
  std::vector<double> Decimals(std::uint32_t element, std::size_t count) {
    std::vector<double> numbers;
    const std::string_view raw = Trim(values_.Raw(element).value_or(""));
    if (raw.empty()) return numbers;
    for (const std::string_view text : SplitValues(raw)) {
      const auto number = ParseDecimal(text);
      if (!number || numbers.size() == count) {
        numbers.clear();
        break;
      }
      numbers.push_back(*number);
    }
    if (numbers.size() != count) {
      Repair("MALFORMED_VALUE", element, "a list of numbers is malformed and was left out");
      numbers.clear();
    }
    return numbers;
  }

 private:
  std::string_view First(std::uint32_t element) const {
    const std::string_view raw = values_.Raw(element).value_or("");
    return Trim(raw.substr(0, raw.find('\\')));
  }

  std::string CodeOf(std::uint32_t element, std::string_view raw) {
    // Some writers leave garbage behind the NUL that pads a UID.
    raw = Trim(raw);
    return Checked(element, CleanUtf8(raw.substr(0, raw.find('\0'))));
  }

  std::string Checked(std::uint32_t element, const dicom::Text& text) {
    if (text.repaired) {
      Repair("CHARSET_REPAIRED", element, "text did not fit its character set and was repaired");
    }
    const std::string_view cut = CutUtf8(text.utf8, kMaxTextBytes);
    if (cut.size() < text.utf8.size())
      Repair("TEXT_CUT", element, "text was longer than any valid one and was cut");
    return std::string(cut);
  }

  const HeaderValues& values_;
  InstanceHeader& header_;
  TextDecoder decoder_;
};

void ReadIdentity(FieldReader& read, InstanceHeader& header) {
  header.set_sop_class_uid(read.Code(tag::kSopClassUid));
  header.set_sop_instance_uid(read.Code(tag::kSopInstanceUid));
  header.set_study_instance_uid(read.Code(tag::kStudyInstanceUid));
  header.set_series_instance_uid(read.Code(tag::kSeriesInstanceUid));
  header.set_frame_of_reference_uid(read.Code(tag::kFrameOfReferenceUid));
  header.set_patient_id(read.Text(tag::kPatientId));
  header.set_issuer_of_patient_id(read.Text(tag::kIssuerOfPatientId));
  header.set_patient_name(read.Name(tag::kPatientName));
  header.set_patient_birth_date(read.Code(tag::kPatientBirthDate));
  header.set_patient_sex(read.Code(tag::kPatientSex));
  header.set_patient_age(read.Code(tag::kPatientAge));
  header.set_accession_number(read.Text(tag::kAccessionNumber));
  header.set_accession_issuer(read.Text(tag::kLocalNamespaceEntityId, tag::kIssuerOfAccessionNumberSequence));
  header.set_requested_procedure_id(read.Text(tag::kRequestedProcedureId));
  if (header.requested_procedure_id().empty()) {
    header.set_requested_procedure_id(read.Text(tag::kRequestedProcedureId, tag::kRequestAttributesSequence));
  }
  header.set_placer_order_number(read.Text(tag::kPlacerOrderNumber));
  header.set_filler_order_number(read.Text(tag::kFillerOrderNumber));
}

void ReadAcquisition(const HeaderValues& values, FieldReader& read, InstanceHeader& header) {
  header.set_modality(read.Code(tag::kModality));
  read.Codes(tag::kImageType, [&](std::string code) { header.add_image_type(std::move(code)); });
  header.set_study_date(read.Code(tag::kStudyDate));
  header.set_study_time(read.Code(tag::kStudyTime));
  header.set_acquisition_time(read.Code(tag::kAcquisitionTime));
  header.set_timezone_offset(read.Code(tag::kTimezoneOffset));
  header.set_institution(read.Text(tag::kInstitutionName));
  header.set_station(read.Text(tag::kStationName));
  header.set_manufacturer(read.Text(tag::kManufacturer));
  header.set_series_description(read.Text(tag::kSeriesDescription));
  header.set_protocol_name(read.Text(tag::kProtocolName));
  header.set_body_part(read.Code(tag::kBodyPart));
  header.set_convolution_kernel(read.Text(tag::kConvolutionKernel));
  header.set_contrast_agent(read.Text(tag::kContrastAgent));
  if (const auto value = read.Integer(tag::kSeriesNumber)) header.set_series_number(*value);
  if (const auto value = read.Integer(tag::kAcquisitionNumber)) header.set_acquisition_number(*value);
  if (const auto value = read.Integer(tag::kInstanceNumber)) header.set_instance_number(*value);
  if (const auto value = read.Integer(tag::kTemporalPosition)) header.set_temporal_position(*value);
  if (const auto value = read.Integer(tag::kEchoNumbers)) header.set_echo_number(*value);
  if (const auto value = read.Decimal(tag::kEchoTime)) header.set_echo_time_ms(*value);
  if (const auto value = read.Decimal(tag::kTriggerTime)) header.set_trigger_time_ms(*value);
  if (const auto value = values.Double(tag::kDiffusionBValue)) header.set_diffusion_b_value(*value);
  if (const auto value = read.Decimal(tag::kKvp)) header.set_kvp(*value);
  if (const auto value = read.Decimal(tag::kSliceThickness)) header.set_slice_thickness_mm(*value);
  if (const auto value = read.Decimal(tag::kGantryTilt)) header.set_gantry_tilt_deg(*value);
  for (const double value : read.Decimals(tag::kImagePosition, 3)) header.add_image_position(value);
  for (const double value : read.Decimals(tag::kImageOrientation, 6)) header.add_image_orientation(value);
  for (const double value : read.Decimals(tag::kPixelSpacing, 2)) header.add_pixel_spacing_mm(value);
}

// Without these two a stored value has no meaning: a malformed one refuses the instance.
absl::Status ReadRescale(const HeaderValues& values, FieldReader& read, InstanceHeader& header) {
  constexpr std::string_view kText = "the rescale slope or intercept is no number";
  const std::string_view slope = Trim(values.Raw(tag::kRescaleSlope).value_or(""));
  if (!slope.empty()) {
    const auto number = ParseDecimal(slope);
    if (!number) return Refuse("MALFORMED", TagName(tag::kRescaleSlope), kText);
    header.set_rescale_slope(*number);
  }
  const std::string_view intercept = Trim(values.Raw(tag::kRescaleIntercept).value_or(""));
  if (!intercept.empty()) {
    const auto number = ParseDecimal(intercept);
    if (!number) return Refuse("MALFORMED", TagName(tag::kRescaleIntercept), kText);
    header.set_rescale_intercept(*number);
  }
  header.set_rescale_type(read.Text(tag::kRescaleType));
  return absl::OkStatus();
}

// Whether the pixels went through a lossy codec on their way into this file.
bool SyntaxIsLossy(std::span<const std::byte> file, const FileLayout& layout) {
  if (!layout.has_pixels) return false;
  if (layout.syntax->always_lossy) return true;
  if (layout.syntax->codec != Codec::kJpeg2000) return false;
  // The wavelet says which, whatever the syntax promises; some syntaxes may be either.
  const ByteRange& first = layout.fragments.front();
  const auto info = ReadJpeg2000Info(WithoutJp2(file.subspan(first.offset, first.length)));
  if (info.ok()) return !info->reversible;
  return layout.syntax->uid == kJpeg2000 || layout.syntax->uid == kHtJpeg2000;
}

// Objects with pixels that are no image of the patient's body by a scanner: segmentations, parametric maps,
// radiotherapy, presentation states, structured reports, encapsulated documents, waveforms.
bool IsOtherObject(std::string_view sop_class) {
  constexpr std::array<std::string_view, 9> kPrefixes = {
      "1.2.840.10008.5.1.4.1.1.66.",   // raw data, registration, segmentation
      "1.2.840.10008.5.1.4.1.1.67",    // real world value mapping
      "1.2.840.10008.5.1.4.1.1.481.",  // radiotherapy
      "1.2.840.10008.5.1.4.1.1.11.",   // presentation states
      "1.2.840.10008.5.1.4.1.1.88.",   // structured reports, key objects
      "1.2.840.10008.5.1.4.1.1.104.",  // encapsulated documents
      "1.2.840.10008.5.1.4.1.1.9.",    // waveforms
      "1.2.840.10008.5.1.4.34.",       // radiotherapy, procedure steps
      "1.2.840.10008.5.1.4.1.1.200."};
  return sop_class == "1.2.840.10008.5.1.4.1.1.30" || sop_class == "1.2.840.10008.5.1.4.1.1.66" ||
         std::any_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](std::string_view prefix) { return sop_class.starts_with(prefix); });
}

bool IsPictureClass(std::string_view sop_class) {
  return sop_class == "1.2.840.10008.5.1.4.1.1.7" ||             // secondary capture
         sop_class.starts_with("1.2.840.10008.5.1.4.1.1.7.") ||  // multi-frame secondary capture
         sop_class.starts_with("1.2.840.10008.5.1.4.1.1.77.");   // visible light
}

ipc::v1::ObjectKind KindOf(const FileLayout& layout, const InstanceHeader& header) {
  if (!layout.has_pixels || IsOtherObject(header.sop_class_uid())) return ipc::v1::OBJECT_KIND_OTHER;
  const bool is_gray = header.photometric() == "MONOCHROME1" || header.photometric() == "MONOCHROME2";
  if (!is_gray || IsPictureClass(header.sop_class_uid()) ||
      StoredTypeOf(layout.pixels) == ipc::v1::STORED_TYPE_UNSPECIFIED) {
    return ipc::v1::OBJECT_KIND_PICTURE;
  }
  return ipc::v1::OBJECT_KIND_IMAGE;
}

void ReadPixels(std::span<const std::byte> file, const FileLayout& layout, const HeaderValues& values,
                FieldReader& read, InstanceHeader& header) {
  header.set_transfer_syntax_uid(std::string(layout.syntax->uid));
  header.set_photometric(read.Code(tag::kPhotometric));
  header.set_has_pixels(layout.has_pixels);
  header.set_frames(layout.pixels.frames);
  header.set_lossy(read.Code(tag::kLossyImageCompression) == "01" || SyntaxIsLossy(file, layout));
  double ratio = 0;
  for (const std::string_view text : SplitValues(Trim(values.Raw(tag::kLossyRatio).value_or("")))) {
    const double factor = ParseDecimal(text).value_or(0);
    ratio = ratio == 0 ? factor : ratio * factor;
  }
  header.set_lossy_ratio(ratio);
  header.set_kind(KindOf(layout, header));
  if (!layout.has_pixels) return;
  const PixelFormat& pixels = layout.pixels;
  header.set_rows(pixels.rows);
  header.set_columns(pixels.columns);
  header.set_samples_per_pixel(pixels.samples);
  header.set_bits_allocated(pixels.bits_allocated);
  header.set_bits_stored(pixels.bits_stored);
  header.set_pixel_signed(pixels.is_signed);
  if (pixels.high_bit_repaired) {
    read.Repair("HIGH_BIT_REPAIRED", tag::kHighBit,
                "High Bit contradicted Bits Stored; Bits Stored was kept");
  }
  if (header.kind() == ipc::v1::OBJECT_KIND_IMAGE) header.set_stored_type(StoredTypeOf(pixels));
  if (const auto padding = values.Unsigned16(tag::kPixelPaddingValue)) {
    header.set_pixel_padding_value(pixels.is_signed ? static_cast<std::int16_t>(*padding) : *padding);
  }
}

absl::StatusOr<InstanceHeader> BuildHeader(std::span<const std::byte> file, const FileLayout& layout) {
  InstanceHeader header;
  const HeaderValues values(file, layout);
  FieldReader read(values, header);
  if (layout.syntax_guessed) {
    read.Repair("TRANSFER_SYNTAX_GUESSED", tag::kTransferSyntaxUid, "no transfer syntax is declared");
  } else if (layout.implicit_vr != layout.syntax->implicit_vr) {
    read.Repair("ENCODING_REPAIRED", tag::kTransferSyntaxUid, "the elements are not encoded as declared");
  }
  ReadIdentity(read, header);
  ReadAcquisition(values, read, header);
  TS_RETURN_IF_ERROR(ReadRescale(values, read, header));
  ReadPixels(file, layout, values, read, header);
  for (const HeaderElement& element : layout.elements) {
    if (element.sequence == tag::kContributingEquipmentSequence && element.tag == tag::kManufacturer &&
        read.Text(element.tag, element.sequence, element.item) == kResultManufacturer) {
      header.set_written_by_tomoserve(true);
    }
  }
  return header;
}

}  // namespace

absl::StatusOr<InstanceHeader> ReadHeader(std::span<const std::byte> file, const FileLayout& layout) {
  return Fenced([&]() -> absl::StatusOr<InstanceHeader> { return BuildHeader(file, layout); });
}

absl::StatusOr<InstanceHeader> ReadHeader(std::span<const std::byte> file, const Limits& limits) {
  return Fenced([&]() -> absl::StatusOr<InstanceHeader> {
    TS_ASSIGN_OR_RETURN(const FileLayout layout, Inspect(file, limits));
    return BuildHeader(file, layout);
  });
}

}  // namespace tomoserve::dicom
