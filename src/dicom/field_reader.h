// From an element's bytes to a field of a header; lists what it repairs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dicom/tags.h"
#include "dicom/text.h"
#include "dicom/values.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dicom {

// Reads values into fields of one header. The functions with `raw` take an element's value from anywhere in
// the file, the others look it up at the top level or in an item of a top-level sequence. What could not be
// read as it is valid is left out or repaired, and stands in the header's `repairs` once for each element and
// code. Views must outlive it; confined to one thread.
class FieldReader {
 public:
  FieldReader(const HeaderValues& values, ipc::v1::InstanceHeader& header)
      : values_(values), header_(header), decoder_(values.Raw(tag::kSpecificCharacterSet).value_or("")) {}

  void Repair(std::string_view code, std::uint32_t element, std::string_view text);

  // LO, SH, PN, ...: by the declared character set. `delimiters` reset code extensions.
  std::string Text(std::uint32_t element, std::uint32_t sequence = 0, std::uint32_t item = 0);
  std::string Name(std::uint32_t element);
  std::string TextOf(std::uint32_t element, std::string_view raw, std::string_view delimiters = "\\");

  // CS, UI, DA, TM, AS: ASCII whatever the character set.
  std::string Code(std::uint32_t element, std::uint32_t sequence = 0, std::uint32_t item = 0);
  std::string CodeOf(std::uint32_t element, std::string_view raw);
  // The first sixteen values of a CS, 64 bytes of each.
  std::vector<std::string> Codes(std::uint32_t element);
  std::vector<std::string> CodesOf(std::uint32_t element, std::string_view raw);

  // First value of an IS; none where absent or malformed.
  std::optional<std::int32_t> Integer(std::uint32_t element);

  // First value of a DS; none where absent or malformed.
  std::optional<double> Decimal(std::uint32_t element, std::uint32_t sequence = 0, std::uint32_t item = 0);
  std::optional<double> DecimalOf(std::uint32_t element, std::string_view raw);

  // Exactly `count` DS values, or none.
  std::vector<double> Decimals(std::uint32_t element, std::size_t count);
  std::vector<double> DecimalsOf(std::uint32_t element, std::string_view raw, std::size_t count);

  // Exactly `count` FD values, all finite, or none.
  std::vector<double> DoublesOf(std::uint32_t element, std::string_view raw, std::size_t count);

 private:
  std::string Checked(std::uint32_t element, const dicom::Text& text, std::size_t max_bytes);

  const HeaderValues& values_;
  ipc::v1::InstanceHeader& header_;
  TextDecoder decoder_;
};

}  // namespace tomoserve::dicom
