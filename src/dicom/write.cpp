#include "tomoserve/dicom/write.h"

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dcostrmb.h>
#include <dcmtk/dcmdata/dcpixseq.h>
#include <dcmtk/dcmdata/dcpxitem.h>
#include <dcmtk/dcmdata/dcrlerp.h>
#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmdata/dcwcache.h>
#include <dcmtk/dcmjpeg/djrplol.h>
#include <dcmtk/dcmjpls/djrparam.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dicom/errors.h"
#include "dicom/jpeg2000.h"

namespace tomoserve::dicom {
namespace {

using ipc::v1::SyntheticInstance;

constexpr std::size_t kMaxDecimalChars = 16;
constexpr std::uint32_t kMaxSide = 65535;

absl::Status Invalid(std::string_view field) {
  return Refuse("INSTANCE_INVALID", field, "an instance to be written has an invalid field");
}

absl::Status EncodeFailed() {
  return base::Error(absl::StatusCode::kInternal, "ENCODE_FAILED", "", "DCMTK could not encode the instance");
}

// DS (PS3.5 6.2): as many digits as 16 characters hold.
std::string Decimal(double value) {
  std::array<char, 40> text{};
  for (int digits = 15; digits > 0; --digits) {
    const int length = std::snprintf(text.data(), text.size(), "%.*g", digits, value);
    if (length > 0 && static_cast<std::size_t>(length) <= kMaxDecimalChars) break;
  }
  return text.data();
}

template <typename Numbers>
std::string Decimals(const Numbers& numbers) {
  std::string text;
  for (const double number : numbers) {
    if (!text.empty()) text += '\\';
    text += Decimal(number);
  }
  return text;
}

bool IsUid(const std::string& text) {
  return !text.empty() && text.size() <= 64 && text.find_first_not_of("0123456789.") == std::string::npos;
}

// A backslash would make two values of one, a control character none.
bool IsPlainText(const std::string& text, std::size_t max_chars) {
  for (const char c : text) {
    if (c == '\\' || static_cast<unsigned char>(c) < 0x20) return false;
  }
  return text.size() <= max_chars;
}

template <typename Numbers>
bool AreFinite(const Numbers& numbers, int count) {
  if (numbers.size() != count) return false;
  for (const double number : numbers) {
    if (!std::isfinite(number)) return false;
  }
  return true;
}

absl::Status Validate(const SyntheticInstance& instance, std::size_t pixel_bytes) {
  if (instance.modality() != "CT" && instance.modality() != "MR") return Invalid("modality");
  if (!IsUid(instance.sop_instance_uid())) return Invalid("sop_instance_uid");
  if (!IsUid(instance.study_instance_uid())) return Invalid("study_instance_uid");
  if (!IsUid(instance.series_instance_uid())) return Invalid("series_instance_uid");
  if (!IsUid(instance.frame_of_reference_uid())) return Invalid("frame_of_reference_uid");
  if (!IsPlainText(instance.patient_id(), 64)) return Invalid("patient_id");
  if (!IsPlainText(instance.patient_name(), 192)) return Invalid("patient_name");
  if (!IsPlainText(instance.accession_number(), 16)) return Invalid("accession_number");
  if (!IsPlainText(instance.series_description(), 64)) return Invalid("series_description");
  if (!IsPlainText(instance.body_part(), 16)) return Invalid("body_part");
  if (!IsPlainText(instance.date(), 8)) return Invalid("date");
  if (!IsPlainText(instance.time(), 14)) return Invalid("time");
  if (instance.rows() == 0 || instance.rows() > kMaxSide) return Invalid("rows");
  if (instance.columns() == 0 || instance.columns() > kMaxSide) return Invalid("columns");
  const bool is_signed = instance.stored_type() == ipc::v1::STORED_TYPE_I16;
  if (!is_signed && instance.stored_type() != ipc::v1::STORED_TYPE_U16) return Invalid("stored_type");
  // CT Image: 12 to 16 bits (PS3.3 C.8.2.1).
  if (instance.bits_stored() < 12 || instance.bits_stored() > 16) return Invalid("bits_stored");
  if (!std::isfinite(instance.rescale_slope()) || !std::isfinite(instance.rescale_intercept())) {
    return Invalid("rescale_slope");
  }
  if (instance.modality() == "CT" && instance.rescale_slope() == 0) return Invalid("rescale_slope");
  if (!AreFinite(instance.pixel_spacing_mm(), 2)) return Invalid("pixel_spacing_mm");
  if (!AreFinite(instance.image_position(), 3)) return Invalid("image_position");
  if (!AreFinite(instance.image_orientation(), 6)) return Invalid("image_orientation");
  if (!std::isfinite(instance.slice_thickness_mm())) return Invalid("slice_thickness_mm");
  if (pixel_bytes != std::uint64_t{2} * instance.rows() * instance.columns()) return Invalid("pixels");
  return absl::OkStatus();
}

// Puts attributes and remembers the first failure.
class Attributes {
 public:
  explicit Attributes(DcmItem& item) : item_(item) {}

  void Put(const DcmTagKey& tag, const std::string& value) {
    if (result_.good()) result_ = item_.putAndInsertString(DcmTag(tag), value.c_str());
  }
  void Put16(const DcmTagKey& tag, std::uint32_t value) {
    if (result_.good()) result_ = item_.putAndInsertUint16(DcmTag(tag), static_cast<Uint16>(value));
  }
  OFCondition result() const { return result_; }

 private:
  DcmItem& item_;
  OFCondition result_ = EC_Normal;
};

// Patient, General Study, General Series, Frame of Reference, General Equipment, General Image, Image Plane
// (PS3.3 C.7).
void PutCommonModules(const SyntheticInstance& instance, Attributes& put) {
  const bool is_ct = instance.modality() == "CT";
  put.Put(DCM_SpecificCharacterSet, "ISO_IR 192");
  put.Put(DCM_SOPClassUID, is_ct ? UID_CTImageStorage : UID_MRImageStorage);
  put.Put(DCM_SOPInstanceUID, instance.sop_instance_uid());

  put.Put(DCM_PatientName, instance.patient_name());
  put.Put(DCM_PatientID, instance.patient_id());
  put.Put(DCM_PatientBirthDate, "");
  put.Put(DCM_PatientSex, "");

  put.Put(DCM_StudyInstanceUID, instance.study_instance_uid());
  put.Put(DCM_StudyDate, instance.date());
  put.Put(DCM_StudyTime, instance.time());
  put.Put(DCM_ReferringPhysicianName, "");
  put.Put(DCM_StudyID, "1");
  put.Put(DCM_AccessionNumber, instance.accession_number());

  put.Put(DCM_Modality, instance.modality());
  put.Put(DCM_SeriesInstanceUID, instance.series_instance_uid());
  put.Put(DCM_SeriesNumber, "1");
  put.Put(DCM_SeriesDate, instance.date());
  put.Put(DCM_SeriesTime, instance.time());
  put.Put(DCM_SeriesDescription, instance.series_description());
  put.Put(DCM_BodyPartExamined, instance.body_part());
  put.Put(DCM_PatientPosition, "HFS");

  put.Put(DCM_FrameOfReferenceUID, instance.frame_of_reference_uid());
  put.Put(DCM_PositionReferenceIndicator, "");

  put.Put(DCM_Manufacturer, "Tomoserve phantom");

  put.Put(DCM_InstanceNumber, std::to_string(instance.instance_number()));
  put.Put(DCM_AcquisitionNumber, std::to_string(instance.acquisition_number()));
  put.Put(DCM_ContentDate, instance.date());
  put.Put(DCM_ContentTime, instance.time());
  put.Put(DCM_AcquisitionDate, instance.date());
  put.Put(DCM_AcquisitionTime, instance.time());

  put.Put(DCM_PixelSpacing, Decimals(instance.pixel_spacing_mm()));
  put.Put(DCM_ImageOrientationPatient, Decimals(instance.image_orientation()));
  put.Put(DCM_ImagePositionPatient, Decimals(instance.image_position()));
  put.Put(DCM_SliceThickness, Decimal(instance.slice_thickness_mm()));
}

// CT Image (C.8.2.1) or MR Image (C.8.3.1).
void PutImageModule(const SyntheticInstance& instance, Attributes& put) {
  if (instance.modality() == "CT") {
    put.Put(DCM_ImageType, "ORIGINAL\\PRIMARY\\AXIAL");
    put.Put(DCM_KVP, "120");
    put.Put(DCM_RescaleIntercept, Decimal(instance.rescale_intercept()));
    put.Put(DCM_RescaleSlope, Decimal(instance.rescale_slope()));
    put.Put(DCM_RescaleType, "HU");
    return;
  }
  put.Put(DCM_ImageType, "ORIGINAL\\PRIMARY\\OTHER");
  put.Put(DCM_ScanningSequence, "GR");
  put.Put(DCM_SequenceVariant, "NONE");
  put.Put(DCM_ScanOptions, "");
  put.Put(DCM_MRAcquisitionType, "3D");
  put.Put(DCM_RepetitionTime, "10");
  put.Put(DCM_EchoTime, "5");
  put.Put(DCM_EchoTrainLength, "1");
}

void PutPixelModule(const SyntheticInstance& instance, Attributes& put) {
  put.Put16(DCM_SamplesPerPixel, 1);
  put.Put(DCM_PhotometricInterpretation, "MONOCHROME2");
  put.Put16(DCM_Rows, instance.rows());
  put.Put16(DCM_Columns, instance.columns());
  put.Put16(DCM_BitsAllocated, 16);
  put.Put16(DCM_BitsStored, instance.bits_stored());
  put.Put16(DCM_HighBit, instance.bits_stored() - 1);
  // CharLS aborts on negative samples (DCMTK's "cooked" encoding extends the sign): encoded as unsigned, the
  // codestream is the same. Write sets what the words mean afterwards.
  put.Put16(DCM_PixelRepresentation, 0);
}

absl::Status InsertJpeg2000(const SyntheticInstance& instance, std::span<const Uint16> words,
                            DcmDataset& dataset) {
  const bool is_signed = instance.stored_type() == ipc::v1::STORED_TYPE_I16;
  std::vector<std::int32_t> samples(words.size());
  const std::uint32_t mask = (1u << instance.bits_stored()) - 1;
  const std::uint32_t sign = is_signed ? 1u << (instance.bits_stored() - 1) : 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    samples[i] = static_cast<std::int32_t>(((words[i] & mask) ^ sign) - sign);
  }
  TS_ASSIGN_OR_RETURN(
      std::vector<std::byte> stream,
      EncodeJpeg2000(samples, instance.rows(), instance.columns(), instance.bits_stored(), is_signed));
  if (stream.size() % 2 != 0) stream.push_back(std::byte{0});
  auto sequence = std::make_unique<DcmPixelSequence>(DcmTag(DCM_PixelData, EVR_OB));
  auto table = std::make_unique<DcmPixelItem>(DcmTag(DCM_Item, EVR_OB));
  auto fragment = std::make_unique<DcmPixelItem>(DcmTag(DCM_Item, EVR_OB));
  OFCondition result = fragment->putUint8Array(reinterpret_cast<const Uint8*>(stream.data()),
                                               static_cast<unsigned long>(stream.size()));
  if (result.good()) result = sequence->insert(table.get());
  if (result.good()) table.release();
  if (result.good()) result = sequence->insert(fragment.get());
  if (result.good()) fragment.release();
  if (result.bad()) return EncodeFailed();
  auto pixels = std::make_unique<DcmPixelData>(DCM_PixelData);
  pixels->putOriginalRepresentation(EXS_JPEG2000LosslessOnly, nullptr, sequence.release());
  if (dataset.insert(pixels.get()).bad()) return EncodeFailed();
  pixels.release();
  return absl::OkStatus();
}

// DCMTK's JPEG-LS encoder leaves the byte that makes a fragment even as it found it in memory.
absl::Status ClearJpegLsPadding(DcmDataset& dataset, const DcmRepresentationParameter* parameter) {
  DcmElement* element = nullptr;
  if (dataset.findAndGetElement(DCM_PixelData, element).bad()) return EncodeFailed();
  auto* const pixels = dynamic_cast<DcmPixelData*>(element);
  DcmPixelSequence* sequence = nullptr;
  DcmPixelItem* fragment = nullptr;
  Uint8* bytes = nullptr;
  if (pixels == nullptr ||
      pixels->getEncapsulatedRepresentation(EXS_JPEGLSLossless, parameter, sequence).bad() ||
      sequence->getItem(fragment, 1).bad() || fragment->getUint8Array(bytes).bad() || bytes == nullptr) {
    return EncodeFailed();
  }
  // Behind the end of the image (ISO 14495-1: FF D9).
  const Uint32 length = fragment->getLength();
  if (length >= 3 && bytes[length - 3] == 0xFF && bytes[length - 2] == 0xD9) bytes[length - 1] = 0;
  return absl::OkStatus();
}

absl::StatusOr<std::uint64_t> WriteFile(DcmFileFormat& format, E_TransferSyntax syntax,
                                        std::span<std::byte> file) {
  if (file.size() < 2) return Refuse("SLOT_TOO_SMALL", file.size(), "the file does not fit its slot");
  // DCMTK wants an even buffer.
  DcmOutputBufferStream stream(file.data(), static_cast<offile_off_t>(file.size() & ~std::size_t{1}));
  format.transferInit();
  DcmWriteCache cache;
  const OFCondition result =
      format.write(stream, syntax, EET_ExplicitLength, &cache, EGL_recalcGL, EPD_withoutPadding);
  format.transferEnd();
  if (result == EC_StreamNotifyClient) {
    return Refuse("SLOT_TOO_SMALL", file.size(), "the file does not fit its slot");
  }
  if (result.bad()) return EncodeFailed();
  void* written = nullptr;
  offile_off_t length = 0;
  stream.flushBuffer(written, length);
  return static_cast<std::uint64_t>(length);
}

absl::StatusOr<std::uint64_t> Write(const SyntheticInstance& instance, std::span<const std::byte> pixels,
                                    std::span<std::byte> file) {
  TS_RETURN_IF_ERROR(Validate(instance, pixels.size()));
  const E_TransferSyntax syntax = DcmXfer(instance.transfer_syntax().c_str()).getXfer();
  DcmFileFormat format;
  DcmDataset& dataset = *format.getDataset();
  Attributes put(dataset);
  PutCommonModules(instance, put);
  PutImageModule(instance, put);
  PutPixelModule(instance, put);
  if (put.result().bad()) return EncodeFailed();
  const Uint16 representation = instance.stored_type() == ipc::v1::STORED_TYPE_I16 ? 1 : 0;

  std::vector<Uint16> words(pixels.size() / 2);
  std::memcpy(words.data(), pixels.data(), pixels.size());
  // Bits above Bits Stored are zero in the file, whatever the sign.
  const auto mask = static_cast<Uint16>((1u << instance.bits_stored()) - 1);
  for (Uint16& word : words) word = static_cast<Uint16>(word & mask);
  OFCondition result = EC_Normal;
  switch (syntax) {
    case EXS_JPEG2000LosslessOnly:
      TS_RETURN_IF_ERROR(InsertJpeg2000(instance, words, dataset));
      break;
    case EXS_LittleEndianImplicit:
    case EXS_LittleEndianExplicit:
    case EXS_BigEndianExplicit:
    case EXS_RLELossless:
    case EXS_JPEGProcess14SV1:
    case EXS_JPEGLSLossless:
      result = dataset.putAndInsertUint16Array(DCM_PixelData, words.data(),
                                               static_cast<unsigned long>(words.size()));
      break;
    default:
      return base::Error(absl::StatusCode::kUnimplemented, "UNSUPPORTED_TRANSFER_SYNTAX", "",
                         "the transfer syntax is not written here");
  }
  const DcmRLERepresentationParameter rle;
  const DJ_RPLossless jpeg(1, 0);
  const DJLSRepresentationParameter jpeg_ls(0, OFTrue);
  const DcmRepresentationParameter* parameter = nullptr;
  if (syntax == EXS_RLELossless) parameter = &rle;
  if (syntax == EXS_JPEGProcess14SV1) parameter = &jpeg;
  if (syntax == EXS_JPEGLSLossless) parameter = &jpeg_ls;
  if (result.good()) result = dataset.chooseRepresentation(syntax, parameter);
  if (result.good()) result = dataset.putAndInsertUint16(DCM_PixelRepresentation, representation);
  if (result.bad() || !dataset.canWriteXfer(syntax)) return EncodeFailed();
  if (syntax == EXS_JPEGLSLossless) TS_RETURN_IF_ERROR(ClearJpegLsPadding(dataset, parameter));
  return WriteFile(format, syntax, file);
}

}  // namespace

absl::StatusOr<std::uint64_t> WriteInstance(const Runtime&, const SyntheticInstance& instance,
                                            std::span<const std::byte> pixels, std::span<std::byte> file) {
  return Fenced([&]() -> absl::StatusOr<std::uint64_t> { return Write(instance, pixels, file); });
}

}  // namespace tomoserve::dicom
