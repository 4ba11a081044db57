#include "ipc/reply_checks.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::ipc {
namespace {

constexpr std::size_t kMaxCode = 64;
constexpr std::size_t kMaxValue = 256;
constexpr std::size_t kMaxText = 1024;
constexpr std::size_t kMaxUid = 64;
constexpr std::size_t kMaxModality = 16;
constexpr int kMaxList = 64;
constexpr std::uint32_t kMaxUnsignedShort = 65535;  // value representation US
constexpr std::uint32_t kMaxFrames = 1u << 31;      // IS: 2^31 - 1
constexpr std::uint32_t kMaxBits = 64;
constexpr std::uint64_t kDefaultPixelBytes = 4ull << 30;

bool HasControlCharacter(const std::string& text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7F;
  });
}

bool IsCode(const std::string& code) {
  return !code.empty() && code.size() <= kMaxCode && std::all_of(code.begin(), code.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

bool IsUid(const std::string& uid) {
  return uid.size() <= kMaxUid && uid.find_first_not_of("0123456789.") == std::string::npos;
}

bool IsModality(const std::string& modality) {
  return modality.empty() || (IsCode(modality) && modality.size() <= kMaxModality);
}

// Every double of the message and of those in it; messages of ours do not nest without end.
bool NumbersAreFinite(const google::protobuf::Message& message) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const google::protobuf::FieldDescriptor* field : fields) {
    if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
      for (int i = 0; i < count; ++i) {
        const google::protobuf::Message& inner = field->is_repeated()
                                                     ? reflection.GetRepeatedMessage(message, field, i)
                                                     : reflection.GetMessage(message, field);
        if (!NumbersAreFinite(inner)) return false;
      }
      continue;
    }
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_DOUBLE) continue;
    if (!field->is_repeated()) {
      if (!std::isfinite(reflection.GetDouble(message, field))) return false;
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      if (!std::isfinite(reflection.GetRepeatedDouble(message, field, i))) return false;
    }
  }
  return true;
}

bool HasLength(const google::protobuf::RepeatedField<double>& vector, int length) {
  return vector.empty() || vector.size() == length;
}

bool IsShort(const std::string& text) { return text.size() <= kMaxFrameTextBytes; }

bool IsPlausible(const v1::FrameHeader& frame) {
  return HasLength(frame.image_position(), 3) && HasLength(frame.image_orientation(), 6) &&
         HasLength(frame.pixel_spacing_mm(), 2) && HasLength(frame.diffusion_direction(), 3) &&
         frame.frame_type_size() <= kMaxFrameTypes && frame.dimension_index_values_size() <= kMaxList &&
         IsShort(frame.rescale_type()) && IsShort(frame.stack_id()) &&
         IsShort(frame.complex_image_component()) && IsShort(frame.convolution_kernel()) &&
         IsShort(frame.anatomic_region()) && IsShort(frame.acquisition_datetime()) &&
         std::all_of(frame.frame_type().begin(), frame.frame_type().end(), IsShort);
}

bool ArePlausible(const google::protobuf::RepeatedPtrField<v1::FrameHeader>& frames) {
  return frames.size() <= kMaxHeaderFrames &&
         std::all_of(frames.begin(), frames.end(),
                     [](const v1::FrameHeader& frame) { return IsPlausible(frame); }) &&
         FrameBytes(frames) <= kMaxHeaderFrameBytes;
}

// All tiles lie inside the image.
bool IsPlausible(const v1::Mosaic& mosaic, const v1::InstanceHeader& header) {
  if (mosaic.first_position_size() != 3 || mosaic.step_size() != 3) return false;
  if (mosaic.slices() == 0 || mosaic.tile_rows() == 0 || mosaic.tile_columns() == 0) return false;
  const std::uint64_t down = header.rows() / mosaic.tile_rows();
  const std::uint64_t across = header.columns() / mosaic.tile_columns();
  return mosaic.slices() <= down * across;
}

bool FitsLimits(const v1::InstanceHeader& header, const v1::GatekeeperLimits& limits) {
  const std::uint64_t limit = limits.pixel_bytes() != 0 ? limits.pixel_bytes() : kDefaultPixelBytes;
  std::uint64_t bits = std::max(header.bits_allocated(), 1u);
  for (const std::uint64_t factor :
       {header.rows(), header.columns(), header.frames(), std::max(header.samples_per_pixel(), 1u)}) {
    if (__builtin_mul_overflow(bits, factor, &bits)) return false;
  }
  return bits / 8 <= limit;
}

}  // namespace

bool IsPlausible(const v1::Refusal& refusal) {
  return IsCode(refusal.code()) && refusal.value().size() <= kMaxValue && refusal.text().size() <= kMaxText &&
         !HasControlCharacter(refusal.value()) && !HasControlCharacter(refusal.text()) &&
         IsUid(refusal.series_instance_uid()) && IsUid(refusal.sop_instance_uid()) &&
         IsModality(refusal.modality());
}

bool IsPlausible(const v1::FramePart& part) {
  return !part.frame().empty() && NumbersAreFinite(part) && ArePlausible(part.frame());
}

bool IsPlausible(const v1::InstanceHeader& header, const v1::GatekeeperLimits& limits) {
  if (!v1::ObjectKind_IsValid(header.kind()) || !v1::StoredType_IsValid(header.stored_type())) return false;
  if (!NumbersAreFinite(header)) return false;
  if (!HasLength(header.image_position(), 3) || !HasLength(header.image_orientation(), 6) ||
      !HasLength(header.pixel_spacing_mm(), 2)) {
    return false;
  }
  if (header.rows() > kMaxUnsignedShort || header.columns() > kMaxUnsignedShort ||
      header.samples_per_pixel() > kMaxUnsignedShort || header.frames() >= kMaxFrames ||
      header.bits_allocated() > kMaxBits || header.bits_stored() > kMaxBits) {
    return false;
  }
  // One for each frame: an answer's size follows from its frames.
  if (header.frame_size() > 0 && static_cast<std::uint32_t>(header.frame_size()) != header.frames())
    return false;
  if (!ArePlausible(header.frame())) return false;
  if (!HasLength(header.diffusion_direction(), 3)) return false;
  if (header.has_mosaic() && !IsPlausible(header.mosaic(), header)) return false;
  if (header.image_type_size() > kMaxList || header.repairs_size() > kMaxList ||
      header.pet().corrected_image_size() > kMaxList ||
      !std::all_of(header.repairs().begin(), header.repairs().end(),
                   [](const v1::Refusal& repair) { return IsPlausible(repair); })) {
    return false;
  }
  if (!header.has_pixels()) return true;
  // What could become a slice must be one: an arena is sized by these numbers.
  if (header.stored_type() != v1::STORED_TYPE_UNSPECIFIED &&
      (header.rows() == 0 || header.columns() == 0 || header.frames() == 0)) {
    return false;
  }
  return FitsLimits(header, limits);
}

std::size_t FrameBytes(const google::protobuf::RepeatedPtrField<v1::FrameHeader>& frames) {
  std::size_t bytes = 0;
  for (const v1::FrameHeader& frame : frames) bytes += frame.ByteSizeLong();
  return bytes;
}

std::uint64_t HeldBytes(const v1::InstanceHeader& header) { return header.SpaceUsedLong(); }

bool IsSame(const v1::Slot& a, const v1::Slot& b) {
  return a.arena() == b.arena() && a.offset() == b.offset() && a.bytes() == b.bytes();
}

}  // namespace tomoserve::ipc
