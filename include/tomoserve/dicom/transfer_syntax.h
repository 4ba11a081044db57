// Transfer syntaxes that are read here (PS3.5 section 10 and annex A). Everything else is refused by name.
#pragma once

#include <string_view>

namespace tomoserve::dicom {

enum class Codec { kNative, kRle, kJpeg, kJpegLs, kJpeg2000 };

struct TransferSyntax {
  std::string_view uid;
  Codec codec = Codec::kNative;
  bool implicit_vr = false;
  bool big_endian = false;
  // The syntax itself cannot be lossless. Syntaxes that may be either are judged by their codestream.
  bool always_lossy = false;
  // Read only where the limits say so.
  bool deflated = false;
};

inline constexpr std::string_view kImplicitLittleEndian = "1.2.840.10008.1.2";
inline constexpr std::string_view kExplicitLittleEndian = "1.2.840.10008.1.2.1";
inline constexpr std::string_view kDeflated = "1.2.840.10008.1.2.1.99";
inline constexpr std::string_view kExplicitBigEndian = "1.2.840.10008.1.2.2";
inline constexpr std::string_view kRleLossless = "1.2.840.10008.1.2.5";
inline constexpr std::string_view kJpegLossless = "1.2.840.10008.1.2.4.70";
inline constexpr std::string_view kJpegLsLossless = "1.2.840.10008.1.2.4.80";
inline constexpr std::string_view kJpegLsNearLossless = "1.2.840.10008.1.2.4.81";
inline constexpr std::string_view kJpeg2000Lossless = "1.2.840.10008.1.2.4.90";
inline constexpr std::string_view kJpeg2000 = "1.2.840.10008.1.2.4.91";
inline constexpr std::string_view kHtJpeg2000Lossless = "1.2.840.10008.1.2.4.201";
inline constexpr std::string_view kHtJpeg2000LosslessRpcl = "1.2.840.10008.1.2.4.202";
inline constexpr std::string_view kHtJpeg2000 = "1.2.840.10008.1.2.4.203";

// The syntax with this UID, or null if it is not on the allow-list. The result lives for ever.
const TransferSyntax* FindTransferSyntax(std::string_view uid);

// Name of a known syntax that is not read here ("Deflated Explicit VR Little Endian"); otherwise "unknown
// transfer syntax".
std::string_view RefusedSyntaxName(std::string_view uid);

}  // namespace tomoserve::dicom
