#include "ipc/reply_checks.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace tomoserve::ipc {
namespace {

v1::InstanceHeader SliceHeader() {
  v1::InstanceHeader header;
  header.set_kind(v1::OBJECT_KIND_IMAGE);
  header.set_rows(512);
  header.set_columns(512);
  header.set_frames(1);
  header.set_samples_per_pixel(1);
  header.set_bits_allocated(16);
  header.set_bits_stored(12);
  header.set_stored_type(v1::STORED_TYPE_I16);
  header.set_has_pixels(true);
  for (const double value : {-100.0, -100.0, 30.5}) header.add_image_position(value);
  for (const double value : {1.0, 0.0, 0.0, 0.0, 1.0, 0.0}) header.add_image_orientation(value);
  for (const double value : {0.7, 0.7}) header.add_pixel_spacing_mm(value);
  return header;
}

TEST(ReplyChecksTest, SliceAndObjectWithoutPixelsArePlausible) {
  EXPECT_TRUE(IsPlausible(SliceHeader(), {}));
  EXPECT_TRUE(IsPlausible(v1::InstanceHeader(), {}));
}

TEST(ReplyChecksTest, ImplausibleHeadersAreRefused) {
  using Change = void (*)(v1::InstanceHeader&);
  const std::vector<std::pair<const char*, Change>> changes = {
      {"rows", [](v1::InstanceHeader& h) { h.set_rows(65536); }},
      {"no rows", [](v1::InstanceHeader& h) { h.set_rows(0); }},
      {"columns", [](v1::InstanceHeader& h) { h.set_columns(0xFFFFFFFF); }},
      {"no columns", [](v1::InstanceHeader& h) { h.set_columns(0); }},
      {"no frames", [](v1::InstanceHeader& h) { h.set_frames(0); }},
      {"frames", [](v1::InstanceHeader& h) { h.set_frames(0x80000000); }},
      {"more pixels than the limit", [](v1::InstanceHeader& h) { h.set_frames(8193); }},
      {"product overflows",
       [](v1::InstanceHeader& h) {
         h.set_rows(65535);
         h.set_columns(65535);
         h.set_frames(0x7FFFFFFF);
         h.set_samples_per_pixel(65535);
       }},
      {"samples", [](v1::InstanceHeader& h) { h.set_samples_per_pixel(65536); }},
      {"bits", [](v1::InstanceHeader& h) { h.set_bits_allocated(65); }},
      {"bits stored", [](v1::InstanceHeader& h) { h.set_bits_stored(65); }},
      {"kind", [](v1::InstanceHeader& h) { h.set_kind(static_cast<v1::ObjectKind>(99)); }},
      {"type", [](v1::InstanceHeader& h) { h.set_stored_type(static_cast<v1::StoredType>(-1)); }},
      {"short position", [](v1::InstanceHeader& h) { h.mutable_image_position()->Truncate(2); }},
      {"long orientation", [](v1::InstanceHeader& h) { h.add_image_orientation(0); }},
      {"one spacing", [](v1::InstanceHeader& h) { h.mutable_pixel_spacing_mm()->Truncate(1); }},
      {"infinite position",
       [](v1::InstanceHeader& h) { h.set_image_position(1, std::numeric_limits<double>::infinity()); }},
      {"slope is no number",
       [](v1::InstanceHeader& h) { h.set_rescale_slope(std::numeric_limits<double>::quiet_NaN()); }},
      {"ratio is no number",
       [](v1::InstanceHeader& h) { h.set_lossy_ratio(std::numeric_limits<double>::quiet_NaN()); }},
      {"image types",
       [](v1::InstanceHeader& h) {
         for (int i = 0; i < 65; ++i) h.add_image_type("ORIGINAL");
       }},
      {"corrections",
       [](v1::InstanceHeader& h) {
         for (int i = 0; i < 65; ++i) h.mutable_pet()->add_corrected_image("ATTN");
       }},
      {"repair without code", [](v1::InstanceHeader& h) { h.add_repairs()->set_text("x"); }},
  };
  for (const auto& [name, change] : changes) {
    v1::InstanceHeader header = SliceHeader();
    change(header);
    EXPECT_FALSE(IsPlausible(header, {})) << name;
  }
}

v1::InstanceHeader EnhancedHeader() {
  v1::InstanceHeader header = SliceHeader();
  header.set_frames(2);
  for (int i = 0; i < 2; ++i) {
    v1::FrameHeader& frame = *header.add_frame();
    for (const double value : {0.0, 0.0, 3.0 * i}) frame.add_image_position(value);
    frame.set_rescale_slope(1);
  }
  return header;
}

TEST(ReplyChecksTest, ImplausibleFramesAreRefused) {
  EXPECT_TRUE(IsPlausible(EnhancedHeader(), {}));
  using Change = void (*)(v1::InstanceHeader&);
  const std::vector<std::pair<const char*, Change>> changes = {
      {"one frame less", [](v1::InstanceHeader& h) { h.mutable_frame()->RemoveLast(); }},
      {"one frame more", [](v1::InstanceHeader& h) { h.add_frame(); }},
      {"short position",
       [](v1::InstanceHeader& h) { h.mutable_frame(1)->mutable_image_position()->Truncate(2); }},
      {"position is no number",
       [](v1::InstanceHeader& h) {
         h.mutable_frame(1)->set_image_position(2, std::numeric_limits<double>::quiet_NaN());
       }},
      {"slope is infinite",
       [](v1::InstanceHeader& h) {
         h.mutable_frame(0)->set_rescale_slope(std::numeric_limits<double>::infinity());
       }},
      {"orientation", [](v1::InstanceHeader& h) { h.mutable_frame(0)->add_image_orientation(1); }},
      {"direction", [](v1::InstanceHeader& h) { h.mutable_frame(0)->add_diffusion_direction(1); }},
      {"dimensions",
       [](v1::InstanceHeader& h) {
         for (int i = 0; i < 65; ++i) h.mutable_frame(0)->add_dimension_index_values(1);
       }},
      {"stack", [](v1::InstanceHeader& h) { h.mutable_frame(0)->set_stack_id(std::string(65, 'x')); }},
      {"rescale type",
       [](v1::InstanceHeader& h) { h.mutable_frame(1)->set_rescale_type(std::string(65, 'x')); }},
      {"component",
       [](v1::InstanceHeader& h) { h.mutable_frame(1)->set_complex_image_component(std::string(65, 'x')); }},
      {"long frame type",
       [](v1::InstanceHeader& h) { h.mutable_frame(1)->add_frame_type(std::string(65, 'x')); }},
      {"frame types",
       [](v1::InstanceHeader& h) {
         for (int i = 0; i < 17; ++i) h.mutable_frame(1)->add_frame_type("ORIGINAL");
       }},
  };
  for (const auto& [name, change] : changes) {
    v1::InstanceHeader header = EnhancedHeader();
    change(header);
    EXPECT_FALSE(IsPlausible(header, {})) << name;
  }
}

TEST(ReplyChecksTest, PartsOfAHeaderHavePlausibleFrames) {
  v1::FramePart part;
  EXPECT_FALSE(IsPlausible(part));
  *part.mutable_frame() = EnhancedHeader().frame();
  EXPECT_TRUE(IsPlausible(part));
  v1::FramePart short_position = part;
  short_position.mutable_frame(1)->mutable_image_position()->Truncate(1);
  EXPECT_FALSE(IsPlausible(short_position));
  part.mutable_frame(0)->set_echo_time_ms(std::numeric_limits<double>::infinity());
  EXPECT_FALSE(IsPlausible(part));
}

TEST(ReplyChecksTest, FramesAreAsLargeAsTheyMayBeOnlyWhereThereAreFew) {
  v1::FrameHeader frame;
  for (int i = 0; i < kMaxFrameTypes; ++i) frame.add_frame_type(std::string(kMaxFrameTextBytes, 'x'));
  frame.set_stack_id(std::string(kMaxFrameTextBytes, 'x'));
  const auto most = static_cast<int>(kMaxHeaderFrameBytes / frame.ByteSizeLong());
  ASSERT_LT(most, kMaxHeaderFrames);
  v1::InstanceHeader header = SliceHeader();
  header.set_rows(2);
  header.set_columns(2);
  header.set_frames(static_cast<std::uint32_t>(most));
  for (int i = 0; i < most; ++i) *header.add_frame() = frame;
  EXPECT_TRUE(IsPlausible(header, {}));
  header.set_frames(static_cast<std::uint32_t>(most) + 1);
  *header.add_frame() = frame;
  EXPECT_FALSE(IsPlausible(header, {}));
}

TEST(ReplyChecksTest, TilesOfAMosaicLieInsideItsImage) {
  v1::InstanceHeader header = SliceHeader();
  v1::Mosaic& mosaic = *header.mutable_mosaic();
  mosaic.set_slices(16);
  mosaic.set_tile_rows(128);
  mosaic.set_tile_columns(128);
  for (int i = 0; i < 3; ++i) {
    mosaic.add_first_position(i);
    mosaic.add_step(i);
  }
  EXPECT_TRUE(IsPlausible(header, {}));
  for (const auto change :
       {+[](v1::Mosaic& m) { m.set_slices(17); }, +[](v1::Mosaic& m) { m.set_slices(0); },
        +[](v1::Mosaic& m) { m.set_tile_rows(513); }, +[](v1::Mosaic& m) { m.set_tile_rows(0); },
        +[](v1::Mosaic& m) { m.set_tile_columns(0); }, +[](v1::Mosaic& m) { m.add_step(0); },
        +[](v1::Mosaic& m) { m.clear_first_position(); }}) {
    v1::InstanceHeader changed = header;
    change(*changed.mutable_mosaic());
    EXPECT_FALSE(IsPlausible(changed, {}));
  }
}

TEST(ReplyChecksTest, PixelLimitIsTheConfiguredOne) {
  v1::GatekeeperLimits limits;
  limits.set_pixel_bytes(512 * 512 * 2);
  EXPECT_TRUE(IsPlausible(SliceHeader(), limits));
  limits.set_pixel_bytes(512 * 512 * 2 - 1);
  EXPECT_FALSE(IsPlausible(SliceHeader(), limits));
}

TEST(ReplyChecksTest, RefusalsAreShortAndOfOneLine) {
  v1::Refusal refusal;
  EXPECT_FALSE(IsPlausible(refusal));
  refusal.set_code("NOT_DICOM_3");
  refusal.set_text("a sentence");
  EXPECT_TRUE(IsPlausible(refusal));
  for (const char* code : {"not_dicom", "NOT DICOM", "X\n"}) {
    refusal.set_code(code);
    EXPECT_FALSE(IsPlausible(refusal)) << code;
  }
  refusal.set_code(std::string(65, 'A'));
  EXPECT_FALSE(IsPlausible(refusal));
  refusal.set_code("NOT_DICOM");
  refusal.set_text("two\nlines");
  EXPECT_FALSE(IsPlausible(refusal));
  refusal.set_text(std::string(1025, 'x'));
  EXPECT_FALSE(IsPlausible(refusal));
  refusal.set_text("");
  refusal.set_value(std::string(257, '1'));
  EXPECT_FALSE(IsPlausible(refusal));
  refusal.set_value("");
  refusal.set_series_instance_uid(std::string(64, '1'));
  refusal.set_sop_instance_uid("1.2.3");
  refusal.set_modality("CT");
  EXPECT_TRUE(IsPlausible(refusal));
  for (const char* uid : {"1.2.x", "1.2\n", "1.2 "}) {
    refusal.set_sop_instance_uid(uid);
    EXPECT_FALSE(IsPlausible(refusal)) << uid;
  }
  refusal.set_sop_instance_uid("");
  refusal.set_series_instance_uid(std::string(65, '1'));
  EXPECT_FALSE(IsPlausible(refusal));
  refusal.set_series_instance_uid("");
  refusal.set_modality("Smith^John");
  EXPECT_FALSE(IsPlausible(refusal));
}

TEST(ReplyChecksTest, MutatedRepliesNeverHarm) {
  // Replies with flipped, cut and inserted bytes either do not parse or are judged; the seed is fixed.
  std::mt19937 random(20261123);
  const std::string original = [] {
    v1::HelperReply reply;
    reply.set_index(3);
    *reply.mutable_header() = SliceHeader();
    return reply.SerializeAsString();
  }();
  int parsed = 0;
  int plausible = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = original;
    for (std::uint32_t change = random() % 4 + 1; change > 0 && !bytes.empty(); --change) {
      const std::size_t place = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[place] = static_cast<char>(random());
          break;
        case 1:
          bytes.resize(place);
          break;
        default:
          bytes.insert(place, 1, static_cast<char>(random()));
      }
    }
    v1::HelperReply reply;
    if (!reply.ParseFromString(bytes)) continue;
    ++parsed;
    if (!IsPlausible(reply.header(), {})) continue;
    ++plausible;
    ASSERT_LE(reply.header().rows(), 65535u);
    ASSERT_TRUE(reply.header().image_position().empty() || reply.header().image_position_size() == 3);
  }
  EXPECT_GT(parsed, 100);
  EXPECT_GT(parsed, plausible);
}

}  // namespace
}  // namespace tomoserve::ipc
