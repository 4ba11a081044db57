// Broken high-throughput codestreams, as far as they can be told before OpenJPH sees them: it asserts what it
// should check, which ends its process. What only its block decoder finds is tested with a helper process.
#include <gtest/gtest.h>

#include "dicom/htj2k.h"
#include "dicom/htj2k_markers.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dicom {
namespace {

constexpr std::uint32_t kSide = 64;

std::vector<std::byte> Stream(bool is_signed = false) {
  std::vector<std::int32_t> samples(std::size_t{kSide} * kSide);
  for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<std::int32_t>(i * i % 2048);
  return EncodeHtj2k(samples, kSide, kSide, 12, is_signed);
}

// Where the segment of a marker of the main header begins.
std::size_t Find(const std::vector<std::byte>& stream, std::uint32_t marker) {
  std::size_t at = 2;
  while (at + 4 < stream.size()) {
    const auto word = [&](std::size_t place) {
      return static_cast<std::uint32_t>(stream[place]) << 8 | static_cast<std::uint32_t>(stream[place + 1]);
    };
    if (word(at) == marker) return at;
    at += 2 + word(at + 2);
  }
  ADD_FAILURE() << "no such marker";
  return 0;
}

std::string Verdict(const std::vector<std::byte>& stream) {
  const auto plain = IsPlainHtj2k(stream);
  if (!plain.ok()) return base::ReasonOf(plain.status());
  return *plain ? "plain" : "other";
}

TEST(Htj2kHostileTest, WhatTheEncoderWritesIsPlain) {
  EXPECT_EQ(Verdict(Stream()), "plain");
  EXPECT_EQ(Verdict(Stream(true)), "plain");
  // Fragments are padded to an even length.
  std::vector<std::byte> padded = Stream();
  padded.resize(padded.size() + 3);
  EXPECT_EQ(Verdict(padded), "plain");
}

TEST(Htj2kHostileTest, EveryCutIsRefused) {
  const std::vector<std::byte> whole = Stream();
  const std::size_t first_tile = Find(whole, 0xFF90);
  for (std::size_t length = 2; length + 2 < whole.size(); ++length) {
    const std::string verdict = Verdict({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)});
    EXPECT_EQ(verdict, "CODESTREAM_BROKEN") << length << ' ' << first_tile;
  }
}

TEST(Htj2kHostileTest, ParametersThatContradictEachOtherAreNotForOpenjph) {
  constexpr std::uint32_t kSiz = 0xFF51, kCap = 0xFF50, kCod = 0xFF52, kQcd = 0xFF5C;
  struct Change {
    const char* what;
    std::uint32_t marker;
    std::size_t offset;  // behind the marker and the length
    unsigned value;
  };
  for (const Change& change :
       {Change{"capabilities are not declared", kSiz, 0, 0}, Change{"another part's capability", kCap, 3, 1},
        Change{"code blocks of both kinds", kCap, 4, 0xC0}, Change{"an unknown progression", kCod, 1, 5},
        Change{"two layers", kCod, 3, 2}, Change{"a colour transform", kCod, 4, 1},
        Change{"fewer levels than steps", kCod, 5, 4}, Change{"more levels than steps", kCod, 5, 6},
        Change{"more levels than there can be", kCod, 5, 33}, Change{"code blocks too wide", kCod, 6, 9},
        Change{"code blocks too large", kCod, 7, 8}, Change{"code blocks that are not HT", kCod, 8, 0},
        Change{"an unknown style", kCod, 8, 0x41}, Change{"another wavelet than steps", kCod, 9, 0},
        Change{"an unknown wavelet", kCod, 9, 2}, Change{"derived steps", kQcd, 0, 0x21},
        Change{"steps of the other wavelet", kQcd, 0, 0x22}, Change{"too many bit planes", kQcd, 1, 0xF8}}) {
    std::vector<std::byte> stream = Stream();
    stream[Find(stream, change.marker) + 4 + change.offset] = static_cast<std::byte>(change.value);
    if (change.marker == kQcd && change.offset == 1) stream[Find(stream, kQcd) + 4] = std::byte{0xE0};
    EXPECT_EQ(Verdict(stream), "other") << change.what;
  }
}

TEST(Htj2kHostileTest, ParametersOfSingleComponentsAreNotForOpenjph) {
  for (const unsigned marker : {0x53u, 0x5Du, 0x5Eu, 0x5Fu, 0x60u, 0x61u}) {
    std::vector<std::byte> stream = Stream();
    const std::byte segment[] = {std::byte{0xFF}, static_cast<std::byte>(marker),
                                 std::byte{0},    std::byte{4},
                                 std::byte{0},    std::byte{0}};
    const auto place = static_cast<std::ptrdiff_t>(Find(stream, 0xFF90));
    stream.insert(stream.begin() + place, std::begin(segment), std::end(segment));
    EXPECT_EQ(Verdict(stream), "other") << marker;
  }
  // A second one.
  std::vector<std::byte> twice = Stream();
  const auto cod = static_cast<std::ptrdiff_t>(Find(twice, 0xFF52));
  const std::vector<std::byte> copy(twice.begin() + cod, twice.begin() + cod + 14);
  twice.insert(twice.begin() + cod, copy.begin(), copy.end());
  EXPECT_EQ(Verdict(twice), "other");
}

TEST(Htj2kHostileTest, ATilePartThatReachesOverTheEndIsRefused) {
  const std::vector<std::byte> whole = Stream();
  const std::size_t at = Find(whole, 0xFF90) + 6;
  for (const unsigned length : {1u, 12u, 13u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
    std::vector<std::byte> stream = whole;
    for (std::size_t i = 0; i < 4; ++i) stream[at + i] = static_cast<std::byte>(length >> (24 - 8 * i));
    EXPECT_EQ(Verdict(stream), "CODESTREAM_BROKEN") << length;
  }
  // No length means to the end.
  std::vector<std::byte> open = whole;
  for (std::size_t i = 0; i < 4; ++i) open[at + i] = std::byte{0};
  EXPECT_EQ(Verdict(open), "plain");
}

}  // namespace
}  // namespace tomoserve::dicom
