#include "fuzz/corrupt.h"

#include <algorithm>
#include <random>
#include <string>

#include "dicom/file_builder.h"
#include "dicom/tags.h"
#include "tomoserve/dicom/gatekeeper.h"

namespace tomoserve::fuzz {
namespace {

using dicom::testing::FileBuilder;

constexpr std::size_t kPreambleAndMagic = 132;

// std::uniform_int_distribution is not the same everywhere; a plain remainder is.
class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t number) {
    std::seed_seq sequence{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                           static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(number >> 32)};
    engine_.seed(sequence);
  }
  // In [0, below).
  std::size_t Below(std::size_t below) { return below == 0 ? 0 : engine_() % below; }
  std::byte Byte() { return static_cast<std::byte>(engine_()); }
  std::uint32_t Word() { return static_cast<std::uint32_t>(engine_()); }
  template <typename T, std::size_t N>
  T Of(const std::array<T, N>& values) {
    return values[Below(N)];
  }

 private:
  std::mt19937_64 engine_;
};

using File = std::vector<std::byte>;

void Noise(File& file, std::size_t begin, std::size_t end, std::size_t changes, Random& random) {
  end = std::min(end, file.size());
  if (begin >= end) return;
  for (std::size_t i = 0; i < changes; ++i) file[begin + random.Below(end - begin)] = random.Byte();
}

void Store(File& file, std::size_t at, std::uint32_t value, std::size_t bytes, bool big_endian) {
  for (std::size_t i = 0; i < bytes && at + i < file.size(); ++i) {
    const std::size_t shift = 8 * (big_endian ? bytes - 1 - i : i);
    file[at + i] = static_cast<std::byte>(value >> shift);
  }
}

// Where values begin, as far as the gatekeeper understands the file: elements, pixel data, fragments.
std::vector<dicom::ByteRange> Values(const dicom::FileLayout& layout) {
  std::vector<dicom::ByteRange> values;
  for (const dicom::HeaderElement& element : layout.elements) values.push_back(element.value);
  if (layout.native_pixels.length > 0) values.push_back(layout.native_pixels);
  if (layout.offset_table.offset > 0) values.push_back(layout.offset_table);
  values.insert(values.end(), layout.fragments.begin(), layout.fragments.end());
  return values;
}

void EditLength(File& file, const dicom::FileLayout& layout, Random& random) {
  const std::vector<dicom::ByteRange> values = Values(layout);
  if (values.empty()) return;
  const dicom::ByteRange& value = values[random.Below(values.size())];
  constexpr std::array<std::uint32_t, 10> kLengths = {
      0, 1, 0xFFFF, 0xFFFE, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x80000000, 0x10000000, 64};
  std::uint32_t length = random.Of(kLengths);
  if (random.Below(2) == 0) {
    length = static_cast<std::uint32_t>(value.length) + static_cast<std::uint32_t>(random.Below(9)) - 4;
  }
  // A length stands right before its value: 32 bits, or 16 in elements of explicit VR.
  const std::size_t bytes = random.Below(2) == 0 ? 2 : 4;
  if (value.offset >= bytes) Store(file, value.offset - bytes, length, bytes, layout.big_endian);
}

void LieAboutSize(File& file, const dicom::FileLayout& layout, Random& random) {
  constexpr std::array<std::uint32_t, 8> kTags = {dicom::tag::kRows,
                                                  dicom::tag::kColumns,
                                                  dicom::tag::kSamplesPerPixel,
                                                  dicom::tag::kBitsAllocated,
                                                  dicom::tag::kBitsStored,
                                                  dicom::tag::kHighBit,
                                                  dicom::tag::kPixelRepresentation,
                                                  dicom::tag::kNumberOfFrames};
  constexpr std::array<std::uint32_t, 12> kNumbers = {0, 1, 2, 3, 7, 8, 12, 16, 32, 255, 32767, 65535};
  if (random.Below(4) == 0) {
    for (const dicom::HeaderElement& element : layout.elements) {
      const bool is_side = element.tag == dicom::tag::kRows || element.tag == dicom::tag::kColumns;
      if (is_side) Store(file, element.value.offset, 0xFFFF, 2, layout.big_endian);
    }
    return;
  }
  const std::size_t lies = 1 + random.Below(3);
  for (std::size_t lie = 0; lie < lies; ++lie) {
    const std::uint32_t tag = random.Of(kTags);
    for (const dicom::HeaderElement& element : layout.elements) {
      if (element.tag != tag) continue;
      if (tag == dicom::tag::kNumberOfFrames) {
        constexpr std::string_view kDigits = "0123456789- .";
        for (std::size_t i = 0; i < element.value.length; ++i) {
          file[element.value.offset + i] = static_cast<std::byte>(kDigits[random.Below(kDigits.size())]);
        }
      } else {
        Store(file, element.value.offset, random.Of(kNumbers), 2, layout.big_endian);
      }
    }
  }
}

// A builder with the encoding of the file.
FileBuilder BuilderFor(const dicom::FileLayout& layout) {
  return FileBuilder::Bare(layout.implicit_vr, layout.big_endian);
}

// Where the dataset's first element begins, as near as the layout says.
std::size_t DatasetBegin(const dicom::FileLayout& layout, std::size_t size) {
  for (const dicom::HeaderElement& element : layout.elements) {
    if (element.tag >> 16 > 2) return std::min<std::size_t>(element.value.offset - 8, size);
  }
  return std::min(size, kPreambleAndMagic);
}

File Nested(const dicom::FileLayout& layout, Random& random) {
  constexpr std::array<std::size_t, 8> kDepths = {1, 2, 60, 63, 64, 65, 500, 5000};
  const std::size_t depth = random.Of(kDepths);
  constexpr std::array<std::string_view, 3> kVrs = {"SQ", "UN", "OB"};
  const std::string_view vr = kVrs[random.Below(8) < 6 ? 0 : 1 + random.Below(2)];
  const bool defined = random.Below(2) == 0;
  FileBuilder builder = BuilderFor(layout);
  for (std::size_t i = 0; i < depth; ++i) {
    const auto left = static_cast<std::uint32_t>((depth - i) * 20);
    builder.Header(0x00081140, vr, defined ? left - 12 : FileBuilder::kUndefined);
    builder.Item(defined ? left - 20 : FileBuilder::kUndefined);
  }
  if (!defined && random.Below(2) == 0) {
    for (std::size_t i = 0; i < depth; ++i) builder.ItemEnd().SequenceEnd();
  }
  return builder.bytes();
}

File Bomb(const dicom::FileLayout& layout, Random& random) {
  constexpr std::array<std::size_t, 8> kCounts = {1, 100, 100, 5000, 5000, 20'000, 20'000, 1'050'000};
  const std::size_t count = random.Of(kCounts);
  FileBuilder builder = BuilderFor(layout);
  switch (random.Below(4)) {
    case 0:
      builder.Header(0x00081140, "SQ", FileBuilder::kUndefined);
      for (std::size_t i = 0; i < count; ++i) builder.Item(0);
      builder.SequenceEnd();
      break;
    case 1:
      for (std::size_t i = 0; i < count; ++i)
        builder.Header(0x00090010 + static_cast<std::uint32_t>(i), "LO", 0);
      break;
    case 2:
      builder.Header(0x00091010, "OB", FileBuilder::kUndefined);
      for (std::size_t i = 0; i < count; ++i) builder.Item(0);
      builder.SequenceEnd();
      break;
    default:
      builder.Text(0x00081030, "LO", std::string(std::min<std::size_t>(count, 60'000), '\\'));
      break;
  }
  return builder.bytes();
}

void BreakCodestream(File& file, const dicom::FileLayout& layout, Random& random) {
  if (layout.fragments.empty())
    return Noise(file, file.size() / 2, file.size(), 1 + random.Below(64), random);
  const dicom::ByteRange& fragment = layout.fragments[random.Below(layout.fragments.size())];
  if (fragment.length == 0) return;
  const std::size_t begin = fragment.offset;
  const std::size_t end = fragment.offset + fragment.length;
  switch (random.Below(6)) {
    case 0:  // a word of the header: sizes of RLE segments, of JPEG frames, of JPEG 2000 tiles
      Store(file, begin + random.Below(std::min<std::size_t>(fragment.length, 96)), random.Word(), 4, true);
      break;
    case 1:
      Noise(file, begin, begin + 128, 1 + random.Below(8), random);
      break;
    case 2: {  // other parameters behind a marker
      std::vector<std::size_t> markers;
      for (std::size_t i = begin; i + 1 < end; ++i) {
        if (file[i] == std::byte{0xFF} && file[i + 1] != std::byte{0} && file[i + 1] != std::byte{0xFF})
          markers.push_back(i);
      }
      if (markers.empty()) break;
      const std::size_t marker = markers[random.Below(markers.size())];
      Noise(file, marker + 1, marker + 20, 1 + random.Below(4), random);
      break;
    }
    case 3:  // the end of the codestream is missing
      std::fill(file.begin() + static_cast<std::ptrdiff_t>(begin + random.Below(fragment.length)),
                file.begin() + static_cast<std::ptrdiff_t>(end), std::byte{0});
      break;
    case 4:
      Noise(file, begin, end, 1 + random.Below(fragment.length), random);
      break;
    default:  // one marker more
      Store(file, begin + random.Below(fragment.length), 0xFF00 | (random.Word() & 0xFF), 2, true);
      break;
  }
}

void ChangeSyntax(File& file, const dicom::FileLayout& layout, Random& random) {
  constexpr std::array<std::string_view, 18> kUids = {
      "1.2.840.10008.1.2",       "1.2.840.10008.1.2.1",     "1.2.840.10008.1.2.2",
      "1.2.840.10008.1.2.5",     "1.2.840.10008.1.2.1.99",  "1.2.840.10008.1.2.4.50",
      "1.2.840.10008.1.2.4.51",  "1.2.840.10008.1.2.4.53",  "1.2.840.10008.1.2.4.55",
      "1.2.840.10008.1.2.4.57",  "1.2.840.10008.1.2.4.70",  "1.2.840.10008.1.2.4.80",
      "1.2.840.10008.1.2.4.81",  "1.2.840.10008.1.2.4.90",  "1.2.840.10008.1.2.4.91",
      "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.203"};
  for (const dicom::HeaderElement& element : layout.elements) {
    if (element.tag != dicom::tag::kTransferSyntaxUid) continue;
    std::string uid(random.Of(kUids));
    if (uid.size() % 2 != 0) uid += '\0';
    const auto begin = file.begin() + static_cast<std::ptrdiff_t>(element.value.offset);
    file.erase(begin, begin + static_cast<std::ptrdiff_t>(element.value.length));
    const auto bytes = std::as_bytes(std::span(uid));
    file.insert(file.begin() + static_cast<std::ptrdiff_t>(element.value.offset), bytes.begin(), bytes.end());
    // The meta header is explicit little endian whatever the dataset is.
    Store(file, element.value.offset - 2, static_cast<std::uint32_t>(uid.size()), 2, false);
    return;
  }
}

void SpoilText(File& file, const dicom::FileLayout& layout, Random& random) {
  for (const dicom::HeaderElement& element : layout.elements) {
    const std::uint32_t group = element.tag >> 16;
    if (group == 2 || group == 0x0028 || random.Below(3) != 0) continue;
    Noise(file, element.value.offset, element.value.offset + element.value.length,
          1 + random.Below(element.value.length + 1), random);
  }
  constexpr std::array<std::string_view, 6> kSets = {"ISO_IR 192",       "GB18030",
                                                     "\\ISO 2022 IR 87", "ISO_IR 13",
                                                     "ISO_IR 999",       "\\ISO 2022 IR 149\\ISO 2022 IR 58"};
  const std::string_view set = random.Of(kSets);
  for (const dicom::HeaderElement& element : layout.elements) {
    if (element.tag != dicom::tag::kSpecificCharacterSet) continue;
    for (std::size_t i = 0; i < element.value.length; ++i) {
      file[element.value.offset + i] = static_cast<std::byte>(i < set.size() ? set[i] : ' ');
    }
    return;
  }
  FileBuilder builder = BuilderFor(layout);
  builder.Text(dicom::tag::kSpecificCharacterSet, "CS", set);
  const std::size_t at = DatasetBegin(layout, file.size());
  file.insert(file.begin() + static_cast<std::ptrdiff_t>(at), builder.bytes().begin(), builder.bytes().end());
}

void Apply(Damage damage, File& file, const File& other, Random& random) {
  const std::size_t size = file.size();
  const auto at = [&](std::size_t offset) { return file.begin() + static_cast<std::ptrdiff_t>(offset); };
  dicom::FileLayout layout;
  if (auto inspected = dicom::Inspect(file, {}); inspected.ok()) layout = *std::move(inspected);
  switch (damage) {
    case Damage::kBitFlips: {
      const std::size_t flips = 1 + random.Below(16);
      for (std::size_t i = 0; i < flips; ++i)
        file[random.Below(size)] ^= static_cast<std::byte>(1u << random.Below(8));
      break;
    }
    case Damage::kHeaderNoise:
      Noise(file, std::min(kPreambleAndMagic, size - 1), 1024 + kPreambleAndMagic, 1 + random.Below(12),
            random);
      break;
    case Damage::kPixelNoise:
      Noise(file, size / 2, size, 1 + random.Below(64), random);
      break;
    case Damage::kCut:
      file.resize(random.Below(size));
      break;
    case Damage::kHole: {
      const std::size_t begin = random.Below(size);
      const std::size_t length = std::min(size - begin, 1 + random.Below(512));
      file.erase(at(begin), at(begin + length));
      break;
    }
    case Damage::kInsertion: {
      File piece(1 + random.Below(256));
      if (random.Below(2) == 0) {
        std::generate(piece.begin(), piece.end(), [&] { return random.Byte(); });
      } else {
        const std::size_t begin = random.Below(size);
        piece.assign(at(begin), at(std::min(size, begin + piece.size())));
      }
      file.insert(at(random.Below(size + 1)), piece.begin(), piece.end());
      break;
    }
    case Damage::kLength:
      EditLength(file, layout, random);
      break;
    case Damage::kLyingSize:
      LieAboutSize(file, layout, random);
      break;
    case Damage::kNesting:
    case Damage::kBomb: {
      const File extra = damage == Damage::kNesting ? Nested(layout, random) : Bomb(layout, random);
      file.insert(at(DatasetBegin(layout, size)), extra.begin(), extra.end());
      break;
    }
    case Damage::kCodestream:
      BreakCodestream(file, layout, random);
      break;
    case Damage::kOtherSyntax:
      ChangeSyntax(file, layout, random);
      break;
    case Damage::kText:
      SpoilText(file, layout, random);
      break;
    case Damage::kSplice:
      file.resize(random.Below(size));
      file.insert(file.end(), other.begin() + static_cast<std::ptrdiff_t>(random.Below(other.size())),
                  other.end());
      break;
    case Damage::kCount:
      break;
  }
}

}  // namespace

std::string_view NameOf(Damage damage) {
  constexpr std::array<std::string_view, static_cast<std::size_t>(Damage::kCount)> kNames = {
      "bit flips",  "header noise", "pixel noise", "cut",        "hole",         "insertion", "length",
      "lying size", "nesting",      "bomb",        "codestream", "other syntax", "text",      "splice"};
  return kNames[static_cast<std::size_t>(damage)];
}

Corrupted Corrupt(std::span<const std::vector<std::byte>> bases, std::uint64_t seed, std::uint64_t number) {
  Random random(seed, number);
  Corrupted corrupted;
  corrupted.damage = static_cast<Damage>(number % static_cast<std::uint64_t>(Damage::kCount));
  corrupted.base = random.Below(bases.size());
  corrupted.bytes = bases[corrupted.base];
  const std::size_t rounds = random.Below(4) == 0 ? 2 : 1;
  for (std::size_t round = 0; round < rounds && !corrupted.bytes.empty(); ++round) {
    const Damage damage = round == 0
                              ? corrupted.damage
                              : static_cast<Damage>(random.Below(static_cast<std::size_t>(Damage::kCount)));
    Apply(damage, corrupted.bytes, bases[random.Below(bases.size())], random);
  }
  return corrupted;
}

}  // namespace tomoserve::fuzz
