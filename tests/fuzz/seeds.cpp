#include "fuzz/seeds.h"

#include <zlib.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <span>
#include <tuple>
#include <utility>

#include "dicom/file_builder.h"
#include "dicom/htj2k.h"
#include "dicom/instances.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/gatekeeper.h"
#include "tomoserve/dicom/write.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::fuzz {
namespace {

using dicom::testing::FileBuilder;

constexpr std::uint32_t kUndefined = FileBuilder::kUndefined;
constexpr std::string_view kCt = "1.2.840.10008.5.1.4.1.1.2";

// In the order of dicom::testing::kWritable.
constexpr const char* kNames[] = {"implicit",      "explicit", "big_endian", "rle",
                                  "jpeg_lossless", "jpeg_ls",  "jpeg_2000"};
static_assert(std::size(kNames) == std::size(dicom::testing::kWritable));

FileBuilder Begin(std::string_view syntax, std::string_view sop_class = kCt) {
  FileBuilder file = FileBuilder::WithMeta(syntax);
  file.Text(0x00080016, "UI", sop_class).Text(0x00080018, "UI", "2.25.1").Text(0x00080060, "CS", "CT");
  return file;
}

FileBuilder& End(FileBuilder& file, std::uint32_t rows, std::uint32_t columns, std::uint32_t bits) {
  file.Pixels(rows, columns, bits, bits, bits - 1, false);
  const std::uint32_t bytes = rows * columns * ((bits + 7) / 8);
  return file.Header(0x7FE00010, bits > 8 ? "OW" : "OB", bytes).Raw(std::string(bytes, '\x11'));
}

// The first fragment of a written file.
std::span<const std::byte> CodestreamOf(std::span<const std::byte> file) {
  const auto layout = dicom::Inspect(file, {});
  if (!layout.ok() || layout->fragments.empty()) return {};
  return file.subspan(layout->fragments[0].offset, layout->fragments[0].length);
}

// Two frames of one codestream: cut into fragments, told apart by an offset table or by their first bytes.
FileBuilder MultiFrame(std::string_view syntax, std::span<const std::byte> stream, bool with_table) {
  FileBuilder file = Begin(syntax);
  file.Pixels(12, 16, 16, 12, 11, false, "2").Header(0x7FE00010, "OB", kUndefined);
  const std::size_t half = stream.size() / 4 * 2;
  const auto fragment_bytes = static_cast<std::uint32_t>(stream.size() + 16);
  if (with_table) {
    file.Item(8).U32(0).U32(fragment_bytes);
  } else {
    file.Item(0);
  }
  for (int frame = 0; frame < 2; ++frame) {
    for (const auto part : {stream.first(half), stream.subspan(half)}) {
      file.Item(static_cast<std::uint32_t>(part.size())).Raw(part);
    }
  }
  return std::move(file.SequenceEnd());
}

std::vector<Seed> Structures() {
  std::vector<Seed> seeds;
  const auto add = [&seeds](std::string name, const FileBuilder& file) {
    seeds.push_back({std::move(name), file.bytes()});
  };
  FileBuilder nested = Begin(dicom::kExplicitLittleEndian);
  for (int i = 0; i < 8; ++i) nested.Header(0x00081140, "SQ", kUndefined).Item(kUndefined);
  for (int i = 0; i < 8; ++i) nested.ItemEnd().SequenceEnd();
  add("nested", End(nested, 2, 2, 16));

  FileBuilder defined = Begin(dicom::kExplicitLittleEndian);
  defined.Header(0x00081140, "SQ", 8 + 10 + 8)
      .Item(10)
      .Header(0x00081155, "UI", 2)
      .Raw("1.")
      .ItemEnd()
      .SequenceEnd();
  add("defined_lengths", End(defined, 2, 2, 8).Raw(std::string(16, '\0')));

  FileBuilder private_un = Begin(dicom::kExplicitLittleEndian);
  private_un.Header(0x00091010, "UN", kUndefined).Item(kUndefined);
  private_un.Raw(FileBuilder::Bare(true, false).Header(0x00091011, "", 4).Raw("abcd").bytes())
      .ItemEnd()
      .SequenceEnd();
  add("private_un", End(private_un, 2, 2, 16));

  FileBuilder own = Begin(dicom::kImplicitLittleEndian);
  own.Header(0x0018A001, "SQ", kUndefined)
      .Item(kUndefined)
      .Text(0x00080070, "LO", "Tomoserve")
      .ItemEnd()
      .SequenceEnd();
  add("own_result", End(own, 2, 2, 16));

  FileBuilder groups = Begin(dicom::kExplicitLittleEndian, "1.2.840.10008.5.1.4.1.1.2.1");
  groups.Header(0x52009229, "SQ", kUndefined).Item(kUndefined);
  groups.Header(0x00289110, "SQ", kUndefined)
      .Item(kUndefined)
      .Text(0x00280030, "DS", "0.5\\0.5")
      .ItemEnd()
      .SequenceEnd();
  groups.Header(0x00209116, "SQ", kUndefined)
      .Item(kUndefined)
      .Text(0x00200037, "DS", "1\\0\\0\\0\\1\\0")
      .ItemEnd()
      .SequenceEnd();
  groups.ItemEnd().SequenceEnd().Header(0x52009230, "SQ", kUndefined);
  for (const std::string_view position : {"0\\0\\0", "0\\0\\2"}) {
    groups.Item(kUndefined).Header(0x00209113, "SQ", kUndefined).Item(kUndefined);
    groups.Text(0x00200032, "DS", position).ItemEnd().SequenceEnd().ItemEnd();
  }
  groups.SequenceEnd().Pixels(2, 2, 16, 16, 15, false, "2");
  add("functional_groups", groups.Header(0x7FE00010, "OW", 16).Raw(std::string(16, '\x01')));

  FileBuilder japanese = Begin(dicom::kExplicitLittleEndian);
  japanese.Text(0x00080005, "CS", "ISO 2022 IR 13\\ISO 2022 IR 87");
  japanese.Text(0x00100010, "PN", "\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J");
  add("charset_japanese", End(japanese, 2, 2, 16));
  FileBuilder chinese = Begin(dicom::kExplicitLittleEndian);
  chinese.Text(0x00080005, "CS", "GB18030")
      .Text(0x00100010, "PN", "Wang=\xCD\xF5^\xD0\xA1\xB6\xAB\x81\x35\xF4\x37");
  add("charset_chinese", End(chinese, 2, 2, 16));
  FileBuilder broken = Begin(dicom::kExplicitLittleEndian);
  broken.Text(0x00080005, "CS", "ISO_IR 192")
      .Text(0x00100010, "PN", "M\xFCller")
      .Text(0x00180050, "DS", "1,5");
  add("charset_lying", End(broken, 2, 2, 16));

  FileBuilder words = Begin(dicom::kExplicitBigEndian);
  words.Pixels(2, 3, 8, 8, 7, false).Header(0x7FE00010, "OW", 6).Raw("abcdef");
  add("big_endian_words", words);
  FileBuilder colour = Begin(dicom::kExplicitLittleEndian, "1.2.840.10008.5.1.4.1.1.7");
  colour.Us(0x00280002, 3).Text(0x00280004, "CS", "RGB").Us(0x00280010, 2).Us(0x00280011, 2);
  colour.Us(0x00280100, 8).Us(0x00280101, 8).Header(0x7FE00010, "OB", 12).Raw(std::string(12, 'c'));
  add("colour", colour);
  FileBuilder bits = Begin(dicom::kExplicitLittleEndian, "1.2.840.10008.5.1.4.1.1.66.4");
  bits.Pixels(4, 4, 1, 1, 0, false, "3").Header(0x7FE00010, "OB", 6).Raw("abcdef");
  add("one_bit", bits);
  FileBuilder report = Begin(dicom::kImplicitLittleEndian, "1.2.840.10008.5.1.4.1.1.88.33");
  report.Header(0x0040A730, "", kUndefined)
      .Item(kUndefined)
      .Text(0x0040A160, "", "Finding")
      .ItemEnd()
      .SequenceEnd();
  add("report", report);

  for (const auto& [name, implicit_vr, big_endian] : {std::tuple{"bare_implicit", true, false},
                                                      {"bare_explicit", false, false},
                                                      {"bare_big_endian", false, true}}) {
    FileBuilder bare = FileBuilder::Bare(implicit_vr, big_endian);
    bare.Text(0x00080016, "UI", kCt).Text(0x00200032, "DS", "1\\2\\3");
    add(name, End(bare, 2, 2, 16));
  }
  FileBuilder rle = Begin(dicom::kRleLossless);
  FileBuilder header = FileBuilder::Bare(true, false);
  header.U32(2).U32(64).U32(66);
  for (int i = 3; i < 16; ++i) header.U32(0);
  rle.Pixels(4, 4, 16, 16, 15, true).Encapsulated({header.Raw("\xF1\x01\xF1\x02").bytes()});
  add("rle_runs", rle);
  return seeds;
}

using ipc::v1::HelperReply;

ipc::v1::InstanceHeader SliceHeader(int k) {
  ipc::v1::InstanceHeader h;
  h.set_sop_class_uid(std::string(kCt));
  h.set_sop_instance_uid("2.25.10" + std::to_string(k));
  h.set_study_instance_uid("2.25.1");
  h.set_series_instance_uid("2.25.2");
  h.set_transfer_syntax_uid("1.2.840.10008.1.2.1");
  h.set_kind(ipc::v1::OBJECT_KIND_IMAGE);
  h.set_modality("CT");
  for (const char* type : {"ORIGINAL", "PRIMARY", "AXIAL"}) h.add_image_type(type);
  for (const double value : {0., 0., 2.5 * k}) h.add_image_position(value);
  for (const double value : {1., 0., 0., 0., 1., 0.}) h.add_image_orientation(value);
  for (const double value : {0.7, 0.8}) h.add_pixel_spacing_mm(value);
  h.set_rows(4);
  h.set_columns(4);
  h.set_frames(1);
  h.set_samples_per_pixel(1);
  h.set_photometric("MONOCHROME2");
  h.set_bits_allocated(16);
  h.set_bits_stored(12);
  h.set_stored_type(ipc::v1::STORED_TYPE_I16);
  h.set_rescale_slope(1);
  h.set_rescale_intercept(-1024);
  h.set_has_pixels(true);
  h.set_patient_id("P1");
  return h;
}

std::vector<std::byte> Records(const std::vector<HelperReply>& replies) {
  FileBuilder records = FileBuilder::Bare(true, false);
  for (const HelperReply& reply : replies) {
    const std::string bytes = reply.SerializeAsString();
    records.U16(static_cast<std::uint32_t>(bytes.size())).Raw(bytes);
  }
  return records.bytes();
}

std::vector<HelperReply> Study(int slices, const auto& change) {
  std::vector<HelperReply> replies;
  for (int k = 0; k < slices; ++k) {
    HelperReply& reply = replies.emplace_back();
    reply.set_index(static_cast<std::uint32_t>(k));
    ipc::v1::InstanceHeader header = SliceHeader(k);
    change(k, header);
    *reply.mutable_header() = std::move(header);
  }
  return replies;
}

// A high-throughput JPEG 2000 image, and one whose code blocks are broken: the decoder complains of it.
std::vector<Seed> Htj2kSeeds() {
  std::vector<std::int32_t> samples(64 * 64);
  std::uint32_t noise = 1;
  for (std::int32_t& sample : samples) {
    noise = noise * 1664525 + 1013904223;
    sample = static_cast<std::int32_t>(noise >> 20);
  }
  std::vector<std::byte> stream = dicom::EncodeHtj2k(samples, 64, 64, 12, false);
  if (stream.size() % 2 != 0) stream.push_back(std::byte{0});
  const auto wrap = [](const std::vector<std::byte>& codestream) {
    FileBuilder file = Begin("1.2.840.10008.1.2.4.201");
    file.Pixels(64, 64, 16, 12, 11, false).Encapsulated({codestream});
    return file.bytes();
  };
  std::vector<std::byte> broken = stream;
  for (std::size_t at = broken.size() / 4; at < broken.size() - 8; at += 97) broken[at] ^= std::byte{0x5A};
  return {{"htj2k", wrap(stream)}, {"htj2k_broken_blocks", wrap(broken)}};
}

Seed DeflatedSeed() {
  FileBuilder dataset = FileBuilder::Bare(false, false);
  dataset.Text(0x00080016, "UI", kCt).Text(0x00100020, "LO", "P1");
  End(dataset, 16, 16, 16);
  std::vector<std::byte> packed(4096);
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(dataset.bytes().data()));
  stream.avail_in = static_cast<uInt>(dataset.bytes().size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  FileBuilder file = FileBuilder::WithMeta("1.2.840.10008.1.2.1.99");
  return {"deflated", file.Raw(packed).bytes()};
}

}  // namespace

absl::StatusOr<std::vector<Seed>> DicomSeeds(const dicom::Runtime& runtime) {
  std::vector<Seed> seeds;
  std::vector<std::byte> jpeg;
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    const std::string_view syntax = dicom::testing::kWritable[i];
    for (const bool ct : {true, false}) {
      const auto instance =
          dicom::testing::Instance(syntax, ct ? "CT" : "MR", 12, 16,
                                   ct ? ipc::v1::STORED_TYPE_U16 : ipc::v1::STORED_TYPE_I16, ct ? 12 : 16);
      std::vector<std::byte> file(16 * 1024);
      TS_ASSIGN_OR_RETURN(const std::uint64_t length,
                          dicom::WriteInstance(runtime, instance, dicom::testing::Picture(instance), file));
      file.resize(length);
      if (syntax == dicom::kJpegLossless && ct) jpeg = file;
      seeds.push_back({std::string(ct ? "ct_" : "mr_") + kNames[i], std::move(file)});
    }
  }
  const auto stream = CodestreamOf(jpeg);
  seeds.push_back({"frames_by_table", MultiFrame(dicom::kJpegLossless, stream, true).bytes()});
  seeds.push_back({"frames_by_marker", MultiFrame(dicom::kJpegLossless, stream, false).bytes()});
  std::vector<Seed> structures = Structures();
  std::move(structures.begin(), structures.end(), std::back_inserter(seeds));
  std::vector<Seed> high_throughput = Htj2kSeeds();
  std::move(high_throughput.begin(), high_throughput.end(), std::back_inserter(seeds));
  seeds.push_back(DeflatedSeed());
  return seeds;
}

std::vector<Seed> ReplySeeds() {
  std::vector<Seed> seeds;
  const auto add = [&seeds](std::string name, const std::vector<HelperReply>& replies) {
    seeds.push_back({std::move(name), Records(replies)});
  };
  using Header = ipc::v1::InstanceHeader;
  add("study", Study(6, [](int, Header&) {}));
  add("missing_slice",
      Study(6, [](int k, Header& h) { h.set_image_position(2, k < 3 ? 2.5 * k : 2.5 * (k + 1)); }));
  add("tilted", Study(5, [](int k, Header& h) { h.set_image_position(1, 0.5 * k); }));
  add("two_series",
      Study(6, [](int k, Header& h) { h.set_series_instance_uid(k % 2 == 0 ? "2.25.2" : "2.25.3"); }));
  add("two_phases", Study(6, [](int k, Header& h) {
        h.set_image_position(2, k / 2);
        h.set_temporal_position(k % 2);
      }));
  add("not_finite", Study(3, [](int k, Header& h) {
        h.set_image_position(
            2, k == 0 ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity());
      }));
  add("extreme_numbers", Study(4, [](int k, Header& h) {
        h.set_image_position(2, k * 1e308);
        h.set_pixel_spacing_mm(0, k == 1 ? 1e-308 : -1);
        h.set_rescale_slope(1e300);
      }));
  add("extreme_size", Study(2, [](int, Header& h) {
        h.set_rows(65535);
        h.set_columns(65535);
        h.set_frames(0x7FFFFFFF);
      }));
  add("enhanced", Study(1, [](int, Header& h) {
        h.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.2.1");
        h.set_frames(3);
        for (int frame = 0; frame < 3; ++frame) {
          ipc::v1::FrameHeader& f = *h.add_frame();
          for (const double value : {0., 0., 2. * frame}) f.add_image_position(value);
          for (const double value : {1., 0., 0., 0., 1., 0.}) f.add_image_orientation(value);
          for (const double value : {0.7, 0.8}) f.add_pixel_spacing_mm(value);
          f.set_stack_id("1");
          f.add_dimension_index_values(static_cast<std::uint32_t>(frame + 1));
        }
      }));
  add("mosaic", Study(2, [](int, Header& h) {
        h.set_modality("MR");
        h.add_image_type("MOSAIC");
        h.mutable_mosaic()->set_slices(4);
        h.mutable_mosaic()->set_tile_rows(2);
        h.mutable_mosaic()->set_tile_columns(2);
        for (const double value : {0., 0., 0.}) h.mutable_mosaic()->add_first_position(value);
        for (const double value : {0., 0., 3.}) h.mutable_mosaic()->add_step(value);
      }));
  std::vector<HelperReply> parts = Study(1, [](int, Header& h) { h.set_frames(4); });
  for (int part = 1; part >= 0; --part) {
    HelperReply reply;
    for (int frame = 0; frame < 2; ++frame) {
      ipc::v1::FrameHeader& f = *reply.mutable_frames()->add_frame();
      for (const double value : {0., 0., 3. * (2 * part + frame)}) f.add_image_position(value);
      f.set_rescale_slope(1 + frame);
    }
    parts.insert(parts.begin(), reply);
  }
  add("frames_in_parts", parts);
  HelperReply decoded;
  decoded.set_index(1);
  decoded.mutable_decoded()->set_bytes(32);
  decoded.mutable_decoded()->mutable_slot()->set_offset(4096);
  decoded.mutable_decoded()->mutable_slot()->set_bytes(4096);
  HelperReply written;
  written.mutable_written()->set_bytes(100);
  HelperReply refused;
  refused.mutable_refused()->set_code("TRUNCATED");
  refused.mutable_refused()->set_value("17");
  refused.mutable_refused()->set_text("the file ends inside an element");
  add("decoded", {decoded});
  add("written", {written});
  add("refused", {refused});
  seeds.push_back({"no_message",
                   FileBuilder::Bare(true, false).U16(4).Raw("\xFF\xFF\xFF\xFF").U16(9).Raw("\x0A").bytes()});
  return seeds;
}

}  // namespace tomoserve::fuzz
