#include "tomoserve/dicom/transfer_syntax.h"

#include <array>

namespace tomoserve::dicom {
namespace {

constexpr std::array kSyntaxes = {
    TransferSyntax{kImplicitLittleEndian, Codec::kNative, true, false, false},
    TransferSyntax{kExplicitLittleEndian, Codec::kNative, false, false, false},
    TransferSyntax{kDeflated, Codec::kNative, false, false, false, true},
    TransferSyntax{kExplicitBigEndian, Codec::kNative, false, true, false},
    TransferSyntax{kRleLossless, Codec::kRle, false, false, false},
    // JPEG baseline, extended, and two retired progressive processes that archives still hold.
    TransferSyntax{"1.2.840.10008.1.2.4.50", Codec::kJpeg, false, false, true},
    TransferSyntax{"1.2.840.10008.1.2.4.51", Codec::kJpeg, false, false, true},
    TransferSyntax{"1.2.840.10008.1.2.4.53", Codec::kJpeg, false, false, true},
    TransferSyntax{"1.2.840.10008.1.2.4.55", Codec::kJpeg, false, false, true},
    TransferSyntax{"1.2.840.10008.1.2.4.57", Codec::kJpeg, false, false, false},
    TransferSyntax{kJpegLossless, Codec::kJpeg, false, false, false},
    TransferSyntax{kJpegLsLossless, Codec::kJpegLs, false, false, false},
    TransferSyntax{kJpegLsNearLossless, Codec::kJpegLs, false, false, true},
    TransferSyntax{kJpeg2000Lossless, Codec::kJpeg2000, false, false, false},
    TransferSyntax{kJpeg2000, Codec::kJpeg2000, false, false, false},
    TransferSyntax{kHtJpeg2000Lossless, Codec::kJpeg2000, false, false, false},
    TransferSyntax{kHtJpeg2000LosslessRpcl, Codec::kJpeg2000, false, false, false},
    TransferSyntax{kHtJpeg2000, Codec::kJpeg2000, false, false, false},
};

struct RefusedSyntax {
  std::string_view uid;
  std::string_view name;
};

constexpr std::array kRefused = {
    RefusedSyntax{"1.2.840.10008.1.2.1.98", "Encapsulated Uncompressed Explicit VR Little Endian"},
    RefusedSyntax{"1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian"},
    RefusedSyntax{"1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Lossless"},
    RefusedSyntax{"1.2.840.10008.1.2.4.93", "JPEG 2000 Part 2"},
    RefusedSyntax{"1.2.840.10008.1.2.4.94", "JPIP Referenced"},
    RefusedSyntax{"1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate"},
    RefusedSyntax{"1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level"},
    RefusedSyntax{"1.2.840.10008.1.2.4.101", "MPEG2 Main Profile / High Level"},
    RefusedSyntax{"1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile"},
    RefusedSyntax{"1.2.840.10008.1.2.4.103", "MPEG-4 AVC/H.264 BD-compatible High Profile"},
    RefusedSyntax{"1.2.840.10008.1.2.4.104", "MPEG-4 AVC/H.264 High Profile for 2D Video"},
    RefusedSyntax{"1.2.840.10008.1.2.4.105", "MPEG-4 AVC/H.264 High Profile for 3D Video"},
    RefusedSyntax{"1.2.840.10008.1.2.4.106", "MPEG-4 AVC/H.264 Stereo High Profile"},
    RefusedSyntax{"1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile"},
    RefusedSyntax{"1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile"},
    RefusedSyntax{"1.2.840.10008.1.2.4.110", "JPEG XL Lossless"},
    RefusedSyntax{"1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression"},
    RefusedSyntax{"1.2.840.10008.1.2.4.112", "JPEG XL"},
    RefusedSyntax{"1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced"},
    RefusedSyntax{"1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate"},
    RefusedSyntax{"1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression"},
    RefusedSyntax{"1.2.840.113619.5.2", "GE Private Implicit VR Big Endian"},
    RefusedSyntax{"1.3.46.670589.33.1.4.1", "Philips private RLE (ELSCINT1)"},
};

}  // namespace

const TransferSyntax* FindTransferSyntax(std::string_view uid) {
  for (const TransferSyntax& syntax : kSyntaxes) {
    if (syntax.uid == uid) return &syntax;
  }
  return nullptr;
}

std::string_view RefusedSyntaxName(std::string_view uid) {
  for (const RefusedSyntax& syntax : kRefused) {
    if (syntax.uid == uid) return syntax.name;
  }
  return "unknown transfer syntax";
}

}  // namespace tomoserve::dicom
