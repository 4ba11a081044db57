#include "dicom/dcmtk_frame.h"

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dcpixseq.h>
#include <dcmtk/dcmdata/dcpxitem.h>
#include <dcmtk/dcmdata/dctk.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "dicom/errors.h"

namespace tomoserve::dicom {
namespace {

absl::Status BrokenStream() {
  return Refuse("CODESTREAM_BROKEN", "", "the codestream of a frame is broken or cut off");
}

}  // namespace

absl::Status DecodeByDcmtk(std::string_view transfer_syntax, std::span<const std::byte> codestream,
                           const CodestreamInfo& info, std::span<std::byte> out) {
  const DcmXfer syntax(std::string(transfer_syntax).c_str());
  const Uint16 bits_allocated = info.precision > 8 ? 16 : 8;
  const auto bits_stored = static_cast<Uint16>(info.precision);
  DcmDataset dataset;
  OFCondition result = dataset.putAndInsertUint16(DCM_SamplesPerPixel, 1);
  if (result.good()) result = dataset.putAndInsertString(DCM_PhotometricInterpretation, "MONOCHROME2");
  if (result.good()) result = dataset.putAndInsertUint16(DCM_Rows, static_cast<Uint16>(info.height));
  if (result.good()) result = dataset.putAndInsertUint16(DCM_Columns, static_cast<Uint16>(info.width));
  if (result.good()) result = dataset.putAndInsertUint16(DCM_BitsAllocated, bits_allocated);
  if (result.good()) result = dataset.putAndInsertUint16(DCM_BitsStored, bits_stored);
  if (result.good()) result = dataset.putAndInsertUint16(DCM_HighBit, static_cast<Uint16>(bits_stored - 1));
  if (result.good()) result = dataset.putAndInsertUint16(DCM_PixelRepresentation, 0);

  auto sequence = std::make_unique<DcmPixelSequence>(DcmTag(DCM_PixelData, EVR_OB));
  auto table = std::make_unique<DcmPixelItem>(DcmTag(DCM_Item, EVR_OB));
  if (result.good()) result = sequence->insert(table.get());
  if (result.good()) table.release();
  auto fragment = std::make_unique<DcmPixelItem>(DcmTag(DCM_Item, EVR_OB));
  // Fragments have an even length.
  std::vector<Uint8> padded(codestream.size() + (codestream.size() & 1));
  std::memcpy(padded.data(), codestream.data(), codestream.size());
  if (result.good())
    result = fragment->putUint8Array(padded.data(), static_cast<unsigned long>(padded.size()));
  if (result.good()) result = sequence->insert(fragment.get());
  if (result.good()) fragment.release();
  if (result.bad()) return BrokenStream();

  auto pixels = std::make_unique<DcmPixelData>(DCM_PixelData);
  pixels->putOriginalRepresentation(syntax.getXfer(), nullptr, sequence.release());
  DcmPixelData* const inserted = pixels.get();
  result = dataset.insert(inserted);
  if (result.bad()) return BrokenStream();
  pixels.release();

  // DCMTK wants an even buffer.
  std::vector<Uint16> buffer((out.size() + 1) / 2 + 1);
  Uint32 first_fragment = 1;
  OFString color_model;
  result = inserted->getUncompressedFrame(&dataset, 0, first_fragment, buffer.data(),
                                          static_cast<Uint32>(buffer.size() * sizeof(Uint16)), color_model,
                                          nullptr);
  if (result.bad()) return BrokenStream();
  std::memcpy(out.data(), buffer.data(), out.size());
  return absl::OkStatus();
}

}  // namespace tomoserve::dicom
