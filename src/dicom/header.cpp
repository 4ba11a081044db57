#include "tomoserve/dicom/header.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "dicom/codestream.h"
#include "dicom/errors.h"
#include "dicom/field_reader.h"
#include "dicom/functional_groups.h"
#include "dicom/tags.h"
#include "dicom/values.h"
#include "dicom/vendor.h"
#include "tomoserve/dicom/decode.h"

namespace tomoserve::dicom {
namespace {

using ipc::v1::InstanceHeader;

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
  for (std::string& code : read.Codes(tag::kImageType)) header.add_image_type(std::move(code));
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
  if (header.contrast_agent().empty()) {
    header.set_contrast_agent(read.Text(tag::kCodeMeaning, tag::kContrastAgentSequence));
  }
  if (const auto value = read.Integer(tag::kSeriesNumber)) header.set_series_number(*value);
  if (const auto value = read.Integer(tag::kAcquisitionNumber)) header.set_acquisition_number(*value);
  if (const auto value = read.Integer(tag::kInstanceNumber)) header.set_instance_number(*value);
  if (const auto value = read.Integer(tag::kTemporalPosition)) header.set_temporal_position(*value);
  if (const auto value = read.Integer(tag::kEchoNumbers)) header.set_echo_number(*value);
  if (const auto value = read.Decimal(tag::kEchoTime)) header.set_echo_time_ms(*value);
  if (const auto value = read.Decimal(tag::kTriggerTime)) header.set_trigger_time_ms(*value);
  if (const auto value = values.Double(tag::kDiffusionBValue)) header.set_diffusion_b_value(*value);
  const std::string_view direction = values.Raw(tag::kDiffusionGradientOrientation).value_or("");
  for (const double value : read.DoublesOf(tag::kDiffusionGradientOrientation, direction, 3)) {
    header.add_diffusion_direction(value);
  }
  if (const auto value = read.Decimal(tag::kKvp)) header.set_kvp(*value);
  if (const auto value = read.Decimal(tag::kSliceThickness)) header.set_slice_thickness_mm(*value);
  if (const auto value = read.Decimal(tag::kGantryTilt)) header.set_gantry_tilt_deg(*value);
  for (const double value : read.Decimals(tag::kImagePosition, 3)) header.add_image_position(value);
  for (const double value : read.Decimals(tag::kImageOrientation, 6)) header.add_image_orientation(value);
  for (const double value : read.Decimals(tag::kPixelSpacing, 2)) header.add_pixel_spacing_mm(value);
}

void ReadPet(FieldReader& read, InstanceHeader& header) {
  if (header.modality() != "PT") return;
  constexpr std::uint32_t kRadiopharmaceutical = tag::kRadiopharmaceuticalInformationSequence;
  ipc::v1::PetHeader& pet = *header.mutable_pet();
  pet.set_units(read.Code(tag::kPetUnits));
  pet.set_suv_type(read.Code(tag::kSuvType));
  pet.set_decay_correction(read.Code(tag::kDecayCorrection));
  for (std::string& code : read.Codes(tag::kCorrectedImage)) pet.add_corrected_image(std::move(code));
  if (const auto value = read.Decimal(tag::kRadionuclideTotalDose, kRadiopharmaceutical)) {
    pet.set_dose_bq(*value);
  }
  if (const auto value = read.Decimal(tag::kRadionuclideHalfLife, kRadiopharmaceutical)) {
    pet.set_half_life_s(*value);
  }
  pet.set_injection_datetime(read.Code(tag::kRadiopharmaceuticalStartDateTime, kRadiopharmaceutical));
  pet.set_injection_time(read.Code(tag::kRadiopharmaceuticalStartTime, kRadiopharmaceutical));
  pet.set_series_date(read.Code(tag::kSeriesDate));
  pet.set_series_time(read.Code(tag::kSeriesTime));
  pet.set_acquisition_date(read.Code(tag::kAcquisitionDate));
  if (const auto value = read.Decimal(tag::kPatientWeight)) pet.set_patient_weight_kg(*value);
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

// What the first frame's JPEG 2000 codestream says of itself; none of other codecs, and where it is broken.
std::optional<CodestreamInfo> FirstCodestream(std::span<const std::byte> file, const FileLayout& layout) {
  if (!layout.has_pixels || layout.syntax->codec != Codec::kJpeg2000) return std::nullopt;
  const ByteRange& first = layout.fragments.front();
  const auto info = ReadJpeg2000Info(WithoutJp2(file.subspan(first.offset, first.length)));
  return info.ok() ? std::optional(*info) : std::nullopt;
}

// Whether the pixels went through a lossy codec on their way into this file.
bool SyntaxIsLossy(const FileLayout& layout, const std::optional<CodestreamInfo>& codestream) {
  if (!layout.has_pixels) return false;
  if (layout.syntax->always_lossy) return true;
  if (layout.syntax->codec != Codec::kJpeg2000) return false;
  // The wavelet says which, whatever the syntax promises; some syntaxes may be either.
  if (codestream) return !codestream->reversible;
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
  if (!is_gray || layout.has_modality_lut || IsPictureClass(header.sop_class_uid()) ||
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
  const std::optional<CodestreamInfo> codestream = FirstCodestream(file, layout);
  header.set_lossy(read.Code(tag::kLossyImageCompression) == "01" || SyntaxIsLossy(layout, codestream));
  double ratio = 0;
  for (const std::string_view text : SplitValues(Trim(values.Raw(tag::kLossyRatio).value_or("")))) {
    const double factor = ParseDecimal(text).value_or(0);
    ratio = ratio == 0 ? factor : ratio * factor;
  }
  header.set_lossy_ratio(std::isfinite(ratio) ? ratio : 0);
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
  if (layout.has_modality_lut) {
    read.Repair("MODALITY_LUT", tag::kModalityLutSequence,
                "stored values mean something by a table only; they are used for no volume");
  }
  if (header.kind() == ipc::v1::OBJECT_KIND_IMAGE) {
    header.set_stored_type(StoredTypeOf(pixels));
    if (codestream && codestream->is_signed != pixels.is_signed) {
      read.Repair("CODESTREAM_SIGN", tag::kPixelRepresentation,
                  "the JPEG 2000 codestream has another sign than Pixel Representation, which was followed");
    }
  }
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
  ReadPet(read, header);
  TS_RETURN_IF_ERROR(ReadRescale(values, read, header));
  ReadPixels(file, layout, values, read, header);
  if (header.kind() == ipc::v1::OBJECT_KIND_IMAGE) {
    TS_RETURN_IF_ERROR(ReadFrames(file, layout, values, read, header));
    ReadMosaic(values, read, header);
    ReadPrivateDiffusion(values, read, header);
    NoticePrivateScaling(values, read);
  }
  for (const HeaderElement& element : layout.elements) {
    if (element.sequence == tag::kContributingEquipmentSequence && element.tag == tag::kManufacturer &&
        read.Text(element.tag, element.sequence, element.item) == kResultManufacturer) {
      header.set_written_by_tomoserve(true);
    }
  }
  return header;
}

std::string ValidUid(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  const bool valid = text.size() <= kLongest && text.find_first_not_of("0123456789.") == text.npos;
  return valid ? std::string(text) : "";
}

std::string ValidModality(std::string_view text) {
  constexpr std::size_t kLongest = 16;
  const bool valid =
      text.size() <= kLongest && text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == text.npos;
  return valid ? std::string(text) : "";
}

}  // namespace

void IdentifyRefused(std::span<const std::byte> file, const Limits& limits, ipc::v1::Refusal& refusal) {
  const FileLayout layout = InspectPart(file, limits);
  const HeaderValues values(file, layout);
  const auto text = [&](std::uint32_t tag) { return Trim(values.Raw(tag).value_or("")); };
  refusal.set_series_instance_uid(ValidUid(text(tag::kSeriesInstanceUid)));
  refusal.set_sop_instance_uid(ValidUid(text(tag::kSopInstanceUid)));
  refusal.set_modality(ValidModality(text(tag::kModality)));
}

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
