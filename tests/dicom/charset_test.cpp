// Character sets as whole tables and as names that hospitals send. The expected texts and digests come from
// Python's codecs, which share no code with the C library's converters.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "dicom/text.h"
#include "tomoserve/base/digest.h"

namespace tomoserve::dicom {
namespace {

constexpr std::string_view kNameDelimiters = "\\^=";
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

std::vector<unsigned> Range(unsigned first, unsigned last) {
  std::vector<unsigned> codes;
  for (unsigned code = first; code <= last; ++code) codes.push_back(code);
  return codes;
}

std::vector<unsigned> Join(std::vector<unsigned> codes, const std::vector<unsigned>& more) {
  codes.insert(codes.end(), more.begin(), more.end());
  return codes;
}

struct SingleByteSet {
  const char* charset;
  unsigned first;
  // Python: bytes(range(first, 0x100)).decode(codec, "replace").
  std::string_view text;
};

class SingleByteSetTest : public ::testing::TestWithParam<SingleByteSet> {};

TEST_P(SingleByteSetTest, EqualsPythonsTable) {
  const SingleByteSet& example = GetParam();
  TextDecoder decoder(example.charset);
  std::string all;
  bool undefined = false;
  for (unsigned code = example.first; code <= 0xFF; ++code) {
    const Text text = decoder.Decode(std::string(1, static_cast<char>(code)), "\\");
    EXPECT_EQ(text.repaired, text.utf8 == kReplacement) << code;
    undefined = undefined || text.repaired;
    all += text.utf8;
  }
  EXPECT_EQ(all, example.text);
  EXPECT_EQ(undefined, example.text.find(kReplacement) != std::string_view::npos);
}

INSTANTIATE_TEST_SUITE_P(
    AllSets, SingleByteSetTest,
    ::testing::Values(
        SingleByteSet{"ISO_IR 100", 0xA0,
                      "\u00A0¡¢£¤¥¦§¨©ª«¬\u00AD®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏ"
                      "ÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ"},
        SingleByteSet{"ISO_IR 101", 0xA0,
                      "\u00A0Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u00ADŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎ"
                      "ĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙"},
        SingleByteSet{"ISO_IR 109", 0xA0,
                      "\u00A0Ħ˘£¤\uFFFDĤ§¨İŞĞĴ\u00AD\uFFFDŻ°ħ²³´µĥ·¸ışğĵ½\uFFFDżÀÁÂ\uFFFDÄĊĈÇÈÉÊËÌÍÎÏ"
                      "\uFFFDÑÒÓÔĠÖ×ĜÙÚÛÜŬŜßàáâ\uFFFDäċĉçèéêëìíîï\uFFFDñòóôġö÷ĝùúûüŭŝ˙"},
        SingleByteSet{"ISO_IR 110", 0xA0,
                      "\u00A0ĄĸŖ¤ĨĻ§¨ŠĒĢŦ\u00ADŽ¯°ą˛ŗ´ĩļˇ¸šēģŧŊžŋĀÁÂÃÄÅÆĮČÉĘËĖÍÎĪ"
                      "ĐŅŌĶÔÕÖ×ØŲÚÛÜŨŪßāáâãäåæįčéęëėíîīđņōķôõö÷øųúûüũū˙"},
        SingleByteSet{"ISO_IR 144", 0xA0,
                      "\u00A0ЁЂЃЄЅІЇЈЉЊЋЌ\u00ADЎЏАБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ"
                      "абвгдежзийклмнопрстуфхцчшщъыьэюя№ёђѓєѕіїјљњћќ§ўџ"},
        SingleByteSet{
            "ISO_IR 127", 0xA0,
            "\u00A0\uFFFD\uFFFD\uFFFD¤\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD،\u00AD\uFFFD\uFFFD\uFFFD"
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD؛\uFFFD\uFFFD\uFFFD؟\uFFFDءآأؤإئابةت"
            "ثجحخد"
            "ذرزسشصضطظعغ\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDـفقكلمنهوىي\u064B\u064C\u064D\u064E\u064F\u0650\u0651"
            "\u0652\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"},
        SingleByteSet{"ISO_IR 126", 0xA0,
                      "\u00A0‘’£€₯¦§¨©ͺ«¬\u00AD\uFFFD―°±²³΄΅Ά·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟ"
                      "ΠΡ\uFFFDΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώ\uFFFD"},
        SingleByteSet{"ISO_IR 138", 0xA0,
                      "\u00A0\uFFFD¢£¤¥¦§¨©×«¬\u00AD®¯°±²³´µ¶·¸¹÷»¼½¾\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
                      "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
                      "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
                      "\uFFFD‗אבגדהוזחטיךכלםמןנסעףפץצקרשת\uFFFD\uFFFD\u200E\u200F\uFFFD"},
        SingleByteSet{"ISO_IR 148", 0xA0,
                      "\u00A0¡¢£¤¥¦§¨©ª«¬\u00AD®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏ"
                      "ĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ"},
        SingleByteSet{"ISO_IR 203", 0xA0,
                      "\u00A0¡¢£€¥Š§š©ª«¬\u00AD®¯°±²³Žµ¶·ž¹º»ŒœŸ¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏ"
                      "ÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ"},
        SingleByteSet{
            "ISO_IR 166", 0xA0,
            "\u00A0กขฃคฅฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรฤลฦวศษสหฬอฮฯ"
            "ะ\u0E31าำ\u0E34\u0E35\u0E36\u0E37\u0E38\u0E39\u0E3A\uFFFD\uFFFD\uFFFD\uFFFD฿เแโใไๅๆ\u0E47\u0E48"
            "\u0E49\u0E4A\u0E4B\u0E4C\u0E4D\u0E4E๏๐๑๒๓๔๕๖๗๘๙๚๛\uFFFD\uFFFD\uFFFD\uFFFD"},
        SingleByteSet{"ISO_IR 13", 0xA1,
                      "｡｢｣､･ｦｧｨｩｪｫｬｭｮｯｰｱｲｳｴｵｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾅﾆﾇﾈﾉﾊﾋﾌﾍﾎﾏﾐ"
                      "ﾑﾒﾓﾔﾕﾖﾗﾘﾙﾚﾛﾜﾝﾞﾟ\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
                      "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
                      "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"}));

struct TwoByteSet {
  const char* name;
  const char* charset;
  std::string_view escape;
  std::vector<unsigned> first;
  std::vector<unsigned> second;
  // Defined positions, and the SHA-256 of their characters in UTF-8, row by row.
  int count;
  const char* sha256;
  // Positions (first << 8 | second) that the two sides know differently.
  std::vector<unsigned> skip = {};
};

class TwoByteSetTest : public ::testing::TestWithParam<TwoByteSet> {};

TEST_P(TwoByteSetTest, EqualsPythonsTable) {
  const TwoByteSet& example = GetParam();
  TextDecoder decoder(example.charset);
  std::string all;
  int count = 0;
  for (const unsigned first : example.first) {
    for (const unsigned second : example.second) {
      const unsigned position = first << 8 | second;
      if (std::find(example.skip.begin(), example.skip.end(), position) != example.skip.end()) continue;
      std::string bytes(example.escape);
      bytes += static_cast<char>(first);
      bytes += static_cast<char>(second);
      const Text text = decoder.Decode(bytes, kNameDelimiters);
      if (text.repaired) continue;
      all += text.utf8;
      ++count;
    }
  }
  EXPECT_EQ(count, example.count);
  base::Sha256 hash;
  hash.Update(all);
  EXPECT_EQ(hash.HexDigest(), example.sha256);
}

const std::vector<unsigned> kLower = Range(0x21, 0x7E);
const std::vector<unsigned> kUpper = Range(0xA1, 0xFE);
const std::vector<unsigned> kTrail = Join(Range(0x40, 0x7E), Range(0x80, 0xFE));

INSTANTIATE_TEST_SUITE_P(
    AllSets, TwoByteSetTest,
    ::testing::Values(
        TwoByteSet{"JisX0208", "\\ISO 2022 IR 87", "\x1B$B", kLower, kLower, 6879,
                   "e5cf8f97625d249711a05d4a78d3d57da1e5ce934c38919781eae080996de746"},
        // The tilde is U+007E for Python and U+FF5E for the C library.
        TwoByteSet{"JisX0212",
                   "\\ISO 2022 IR 159",
                   "\x1B$(D",
                   kLower,
                   kLower,
                   6066,
                   "73926d72fb4eafaee59ad227f82d84c20f6496e9d4490b7dcf9ba1a56da563de",
                   {0x2237}},
        // Python lacks the postal code mark, which came in 2002, and the filler.
        TwoByteSet{"KsX1001",
                   "\\ISO 2022 IR 149",
                   "\x1B$)C",
                   kUpper,
                   kUpper,
                   8225,
                   "af47b201eebdff17b698632e3bd3dd4a38ebe53325bb74e3d5121d7bd7767050",
                   {0xA2E8, 0xA4D4}},
        TwoByteSet{"Gb2312", "\\ISO 2022 IR 58", "\x1B$)A", kUpper, kUpper, 7445,
                   "a25b366648b1f1704339de120734a0966060feee459da027cc37ab5da1f1df40"},
        TwoByteSet{"Gbk", "GBK", "", Range(0x81, 0xFE), kTrail, 21791,
                   "0783ca5d8372ad496acd0f474a3c54a41a6e90d3c87157425931e3e30085707b"},
        // Without the rows of symbols that the edition of 2005 moved out of the private use area.
        TwoByteSet{"Gb18030", "GB18030", "", Join(Range(0x81, 0xA0), Range(0xB0, 0xF7)), kTrail, 19760,
                   "3dafe78f742fd6f468bfc79b84eced00d3903b330d5d2f77f7a2d47a6b53a01c"}),
    [](const auto& tested) { return tested.param.name; });

struct Name {
  const char* what;
  const char* charset;
  std::string_view bytes;
  std::string_view expected;
};

class NameTest : public ::testing::TestWithParam<Name> {};

TEST_P(NameTest, BecomesUtf8WithoutARepair) {
  const Text text = TextDecoder(GetParam().charset).Decode(GetParam().bytes, kNameDelimiters);
  EXPECT_EQ(text.utf8, GetParam().expected);
  EXPECT_FALSE(text.repaired);
}

INSTANTIATE_TEST_SUITE_P(
    AllNames, NameTest,
    ::testing::Values(
        Name{"FourBytesOfGb18030", "GB18030", "\x81\x30\x8B\x38\x95\x32\x82\x36", "Ā𠀀"},
        Name{"Gb18030TrailByteIsABackslash", "GB18030", "\x81\x5C^\x81\x5E", "乗^乛"},
        Name{"ThreeSetsInOneText", "\\ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 126",
             "Dionysios is \x1B-F\xC4\xE9\xEF\xED\xF5\xF3\xE9\xEF\xF2 \x1B-A\xC4\xDC",
             "Dionysios is Διονυσιος ÄÜ"},
        Name{"FirstSetAndAnother", "ISO 2022 IR 100\\ISO 2022 IR 144",
             "J\xE9r\xF4me \x1B-L\xBB\xEE\xDA\x63\x65\xDC\xD1\x79\x70\xD3", "Jérôme Люкceмбypг"},
        Name{"ADelimiterGoesBackToTheFirstSet", "ISO 2022 IR 100\\ISO 2022 IR 144", "\x1B-L\xBB^\xE9", "Л^é"},
        Name{"SeveralSetsWithoutTheWord2022", "ISO_IR 100\\ISO_IR 144", "J\xE9r\xF4me \x1B-L\xBB\xEE\xDA",
             "Jérôme Люк"},
        Name{"HebrewByEscape", "ISO 2022 IR 6\\ISO 2022 IR 138", "A \x1B-H\xF9\xF8\xE5\xEF", "A שרון"},
        Name{"ThaiByEscape", "\\ISO 2022 IR 166", "A \x1B-T\xA1\xD2", "A กา"},
        Name{"HalfAndFullWidthKatakana", "ISO 2022 IR 13\\ISO 2022 IR 87",
             "\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J=\x1B$B$d$^$@\x1B(J^\x1B$B$?$m$&"
             "\x1B(J",
             "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"},
        Name{"KatakanaByEscape", "\\ISO 2022 IR 13\\ISO 2022 IR 87", "\x1B)I\xD4\xCF\x1B$B;3\x1B(B", "ﾔﾏ山"},
        Name{"SpaceInPlaceOfAnUnderscoreAndUnderscoresInPlaceOfSpaces", "ISO_2022_IR_100\\ISO_2022_IR_144",
             "\xE9\x1B-L\xBB", "éЛ"},
        Name{"UnderscoreBeforeTheNumber", "ISO_IR_100", "J\xE9r\xF4me", "Jérôme"},
        Name{"Utf8WithAllLengths", "ISO_IR 192", "é€😀", "é€😀"}),
    [](const auto& tested) { return tested.param.what; });

// What was declared is not what was written: nothing invalid comes out, and the repair is reported.
class LyingNameTest : public ::testing::TestWithParam<Name> {};

TEST_P(LyingNameTest, IsRepairedAndSaysSo) {
  const Text text = TextDecoder(GetParam().charset).Decode(GetParam().bytes, kNameDelimiters);
  EXPECT_EQ(text.utf8, GetParam().expected);
  EXPECT_TRUE(text.repaired);
  EXPECT_FALSE(CleanUtf8(text.utf8).repaired);
}

INSTANTIATE_TEST_SUITE_P(
    AllLies, LyingNameTest,
    ::testing::Values(
        Name{"Latin1DeclaredAsUtf8", "ISO_IR 192", "M\xFCller^J\xF6rg", "M\uFFFDller^J\uFFFDrg"},
        Name{"Utf8DeclaredAsLatin1", "ISO_IR 100",
             "\xC3\x9C"
             "nal",
             "Ã\uFFFDnal"},
        Name{"CodePage1252DeclaredAsLatin1", "ISO_IR 100", "\x84 5 \x80", "\uFFFD 5 \uFFFD"},
        Name{"Utf8DeclaredAsNothing", "", "Ünal", "Ünal"},
        Name{"Latin1DeclaredAsAscii", "ISO_IR 6", "J\xE9r\xF4me", "Jérôme"},
        Name{"ShiftJisDeclaredAsKatakana", "ISO_IR 13", "\x8E\x52\x93\x63",
             "\uFFFDR\uFFFD"
             "c"},
        Name{"GbkDeclaredAsUtf8", "ISO_IR 192", "\xCD\xF5^\xD0\xA1", "\uFFFD\uFFFD^С"},
        Name{"EscapesWithoutCodeExtensions", "ISO_IR 100", "\x1B$B;3\x1B(B", "\uFFFD$B;3\uFFFD(B"},
        Name{"AnEscapeThatIsNone", "\\ISO 2022 IR 87", "a\x1B%Gb", "a\uFFFD%Gb"},
        Name{"UpperHalfWithoutASet", "\\ISO 2022 IR 87", "a\xE9", "a\uFFFD"},
        Name{"AKanjiCutInHalf", "\\ISO 2022 IR 87", "\x1B$B;3E", "山\uFFFD"},
        Name{"AnUndefinedKanji", "\\ISO 2022 IR 87", "\x1B$B\x29\x21\x1B(B", "\uFFFD\uFFFD"},
        Name{"UndefinedInHebrew", "ISO_IR 138", "\xF9\xBF", "ש\uFFFD"},
        Name{"ACutCharacterOfGb18030", "GB18030", "\xCD\xF5\x81\x35\xF4",
             "王\uFFFD"
             "5\uFFFD"},
        Name{"AnUnknownSet", "ISO_IR 999", "\xE9", "é"}, Name{"NoSetAtAll", "Klingon", "\xE9", "é"}),
    [](const auto& tested) { return tested.param.what; });

TEST(CharsetTableTest, EveryByteOfEverySetIsValidUtf8InTheEnd) {
  for (const char* charset :
       {"", "ISO_IR 100", "ISO_IR 13", "ISO_IR 144", "ISO_IR 166", "ISO_IR 192", "GB18030", "GBK",
        "ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159\\ISO 2022 IR 149\\ISO 2022 IR 58\\ISO 2022 IR "
        "100"}) {
    TextDecoder decoder(charset);
    for (const std::string_view prefix :
         {"", "\x1B$B", "\x1B$(D", "\x1B$)C", "\x1B$)A", "\x1B)I", "\x1B-A"}) {
      for (unsigned first = 0; first < 256; ++first) {
        for (const unsigned second : {0x00u, 0x1Bu, 0x24u, 0x5Cu, 0x7Fu, 0x80u, 0xA1u, 0xFFu}) {
          std::string bytes(prefix);
          bytes += static_cast<char>(first);
          bytes += static_cast<char>(second);
          const Text text = decoder.Decode(bytes, kNameDelimiters);
          EXPECT_FALSE(CleanUtf8(text.utf8).repaired) << charset << ' ' << first << ' ' << second;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tomoserve::dicom
