#include "tomoserve/dicom/runtime.h"

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dcdict.h>
#include <dcmtk/dcmdata/dcrledrg.h>
#include <dcmtk/dcmdata/dcrleerg.h>
#include <dcmtk/dcmjpeg/djdecode.h>
#include <dcmtk/dcmjpeg/djencode.h>
#include <dcmtk/dcmjpls/djdecode.h>
#include <dcmtk/dcmjpls/djencode.h>
#include <dcmtk/oflog/oflog.h>

#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dicom/charset.h"
#include "dicom/codestream.h"
#include "dicom/errors.h"
#include "dicom/htj2k.h"
#include "tomoserve/dicom/decode.h"
#include "tomoserve/dicom/gatekeeper.h"
#include "tomoserve/dicom/header.h"
#include "tomoserve/dicom/write.h"

namespace tomoserve::dicom {
namespace {

absl::Status Missing(std::string_view what) {
  return base::Error(absl::StatusCode::kInternal, "DICOM_RUNTIME", what,
                     "the DICOM libraries are not complete");
}

ipc::v1::SyntheticInstance SmallInstance(std::string_view syntax) {
  ipc::v1::SyntheticInstance instance;
  instance.set_modality("CT");
  instance.set_transfer_syntax(std::string(syntax));
  for (auto* uid : {instance.mutable_sop_instance_uid(), instance.mutable_study_instance_uid(),
                    instance.mutable_series_instance_uid(), instance.mutable_frame_of_reference_uid()}) {
    *uid = "2.25.1";
  }
  instance.set_rows(16);
  instance.set_columns(16);
  instance.set_stored_type(ipc::v1::STORED_TYPE_I16);
  instance.set_bits_stored(16);
  instance.set_rescale_slope(1);
  for (int i = 0; i < 2; ++i) instance.add_pixel_spacing_mm(1);
  for (int i = 0; i < 3; ++i) instance.add_image_position(0);
  for (const double value : {1., 0., 0., 0., 1., 0.}) instance.add_image_orientation(value);
  return instance;
}

// HTJ2K is not written as a file here: its codec alone is proved.
absl::Status ProveHtj2k() {
  constexpr std::uint32_t kSide = 16;
  std::vector<std::int32_t> samples(std::size_t{kSide} * kSide);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<std::int32_t>(i * 7) - 900;
  const std::vector<std::byte> stream = EncodeHtj2k(samples, kSide, kSide, 12, true);
  TS_ASSIGN_OR_RETURN(const CodestreamInfo info, ReadJpeg2000Info(stream));
  std::vector<std::int32_t> decoded(samples.size());
  TS_RETURN_IF_ERROR(DecodeHtj2k(stream, info, decoded));
  return info.high_throughput && decoded == samples ? absl::OkStatus() : Missing(kHtJpeg2000Lossless);
}

}  // namespace

Runtime::Runtime() : converters_(std::make_unique<CharsetConverters>()) {
  OFLog::configure(OFLogger::OFF_LOG_LEVEL);
  SilenceHtj2k();
  DcmRLEDecoderRegistration::registerCodecs();
  DcmRLEEncoderRegistration::registerCodecs();
  DJDecoderRegistration::registerCodecs(EDC_photometricInterpretation, EUC_never);
  DJEncoderRegistration::registerCodecs(ECC_lossyYCbCr, EUC_never);
  DJLSDecoderRegistration::registerCodecs(EJLSUC_never);
  DJLSEncoderRegistration::registerCodecs(0, 0, 0, 0, OFTrue, 0, OFTrue, EJLSUC_never);
}

Runtime::~Runtime() {
  DJLSEncoderRegistration::cleanup();
  DJLSDecoderRegistration::cleanup();
  DJEncoderRegistration::cleanup();
  DJDecoderRegistration::cleanup();
  DcmRLEEncoderRegistration::cleanup();
  DcmRLEDecoderRegistration::cleanup();
}

absl::StatusOr<std::unique_ptr<Runtime>> Runtime::Create() {
  return Fenced([]() -> absl::StatusOr<std::unique_ptr<Runtime>> {
    std::unique_ptr<Runtime> runtime(new Runtime);
    if (!dcmDataDict.isDictionaryLoaded()) return Missing("dictionary");
    const std::vector<std::string> missing = runtime->converters_->OpenAll();
    if (!missing.empty()) return Missing(missing.front());
    TS_RETURN_IF_ERROR(ProveHtj2k());
    for (const std::string_view syntax : {kImplicitLittleEndian, kExplicitLittleEndian, kExplicitBigEndian,
                                          kRleLossless, kJpegLossless, kJpegLsLossless, kJpeg2000Lossless}) {
      const ipc::v1::SyntheticInstance instance = SmallInstance(syntax);
      std::vector<std::byte> pixels(std::size_t{2} * instance.rows() * instance.columns());
      for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::byte>(i * 7);
      std::vector<std::byte> file(16 * 1024);
      TS_ASSIGN_OR_RETURN(const std::uint64_t length, WriteInstance(*runtime, instance, pixels, file));
      file.resize(length);
      TS_ASSIGN_OR_RETURN(const FileLayout layout, Inspect(file, Limits{}));
      TS_RETURN_IF_ERROR(ReadHeader(file, layout).status());
      std::vector<std::byte> decoded(pixels.size());
      const FrameRequest request{0, ipc::v1::STORED_TYPE_I16, instance.rows(), instance.columns()};
      TS_RETURN_IF_ERROR(DecodeFrame(*runtime, file, layout, request, decoded));
      if (decoded != pixels) return Missing(syntax);
    }
    return runtime;
  });
}

}  // namespace tomoserve::dicom
