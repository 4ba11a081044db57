// Files that are no model, and files made to hurt.
#include <gmock/gmock.h>

#include <fstream>

#include "models/import_fixtures.h"

namespace tomoserve::models::importer {
namespace {

using ::testing::HasSubstr;

class ImportFilesTest : public ImportTest {
 protected:
  std::string Write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder() / name, std::ios::binary) << bytes;
    return (folder() / name).string();
  }
};

TEST_F(ImportFilesTest, NoArchives) {
  EXPECT_EQ(Refusal({(folder() / "absent.ts").string()}), "IMPORT_ARCHIVE absent.ts");
  EXPECT_EQ(Refusal({Write("empty.ts", "")}), "IMPORT_ARCHIVE empty.ts");
  EXPECT_EQ(Refusal({Write("text.ts", "no zip")}), "IMPORT_ARCHIVE text.ts");
  EXPECT_EQ(Refusal({folder().string()}), "IMPORT_ARCHIVE " + folder().filename().string());
  EXPECT_EQ(Refusal({}), "IMPORT_INVALID 0");
  EXPECT_EQ(Refusal(std::vector<std::string>(17, "x.ts")), "IMPORT_INVALID 17");
}

TEST_F(ImportFilesTest, CutAndFlippedArchives) {
  const std::string whole = ReadText(MakeBundle("{}", "{}"));
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    EXPECT_NE(Refusal({Write("cut.ts", whole.substr(0, length))}), "imported");
  }
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 0xFF);
    EXPECT_NE(Refusal({Write("flipped.ts", flipped)}), "imported");
  }
}

TEST_F(ImportFilesTest, NoTorchScript) {
  EXPECT_EQ(Refusal({MakeArchive("plain.ts", {{"model/extra/inference.json", "{}"}}, false)}),
            "IMPORT_ARCHIVE plain.ts");
}

TEST_F(ImportFilesTest, WithoutADescription) {
  EXPECT_EQ(Refusal({MakeArchive("bare.ts", {})}), "IMPORT_UNSUPPORTED inference.json");
  EXPECT_EQ(Refusal({MakeArchive("half.ts", {{"model/extra/inference.json", "{}"}})}),
            "IMPORT_UNSUPPORTED metadata.json");
  EXPECT_EQ(Refusal({MakeArchive("plans.ts", {{"model/extra/plans.json", "{}"}})}),
            "IMPORT_UNSUPPORTED dataset.json");
  EXPECT_EQ(Refusal({MakeArchive("deep.ts", {{"model/extra/sub/inference.json", "{}"}})}),
            "IMPORT_UNSUPPORTED inference.json")
      << "only what lies in extra itself counts";
}

TEST_F(ImportFilesTest, TheSameDescriptionTwice) {
  EXPECT_EQ(
      Refusal({MakeArchive("two.ts", {{"a/extra/inference.json", "{}"}, {"b/extra/inference.json", "{}"}})}),
      "IMPORT_ARCHIVE two.ts");
}

TEST_F(ImportFilesTest, TooMuchJson) {
  const std::string huge = "[" + std::string(9U << 20, ' ') + "]";
  const std::string path = MakeArchive("huge.ts", {{"model/extra/inference.json", huge}});
  EXPECT_LT(std::filesystem::file_size(path), 1U << 20) << "a few kilobytes on disk";
  EXPECT_EQ(Refusal({path}), "IMPORT_ARCHIVE huge.ts");
}

TEST_F(ImportFilesTest, TooMuchJsonTogether) {
  const std::string large = "[" + std::string(7U << 20, ' ') + "]";
  std::map<std::string, std::string> files;
  for (int i = 0; i < 5; ++i) files["model/extra/" + std::to_string(i) + ".json"] = large;
  EXPECT_EQ(Refusal({MakeArchive("many.ts", files)}), "IMPORT_ARCHIVE many.ts");
}

// An object of `members`, in pieces of a list where `each` is less.
std::string ObjectsOf(int members, int each) {
  std::string text = "{\"a\": [{";
  for (int i = 0; i < members; ++i) {
    if (i > 0) text += i % each == 0 ? "}, {" : ", ";
    text += "\"k" + std::to_string(i) + "\": 0";
  }
  return text + "}]}";
}

TEST_F(ImportFilesTest, ObjectsOfTooManyMembers) {
  EXPECT_TRUE(ParseJson(ObjectsOf(10000, 10000), "x.json").ok());
  EXPECT_TRUE(ParseJson(ObjectsOf(99999, 1000), "x.json").ok());
  for (const std::string& text : {ObjectsOf(10001, 10001), ObjectsOf(100000, 1000)}) {
    const absl::Status status = ParseJson(text, "x.json").status();
    EXPECT_THAT(status.message(), HasSubstr("members"));
    EXPECT_EQ(Refusal({MakeBundle(text, "{}")}), "IMPORT_INVALID inference.json");
    EXPECT_EQ(Refusal({MakeBundle("{}", text)}), "IMPORT_INVALID metadata.json");
  }
  EXPECT_TRUE(ParseJson("[\"" + std::string(20000, ':') + "\"]", "x.json").ok()) << "within a text";
}

TEST_F(ImportFilesTest, KeysThatAreTooLong) {
  EXPECT_TRUE(ParseJson("{\"" + std::string(256, 'k') + "\": \"" + std::string(1000, 'v') + "\"}", "x").ok());
  EXPECT_FALSE(ParseJson("{\"" + std::string(257, 'k') + "\": 0}", "x").ok());
}

TEST_F(ImportFilesTest, NoJson) {
  for (const std::string& text :
       {std::string(""), std::string("{"), std::string("[1,]"), std::string("{\"a\": NaN}"),
        std::string("\"\xC3\x28\""), std::string("1e999"), std::string("{\"a\":1}x"),
        std::string(100000, '['), std::string(65, '[') + std::string(65, ']')}) {
    EXPECT_EQ(Refusal({MakeBundle(text, "{}")}), "IMPORT_INVALID inference.json") << text.substr(0, 20);
  }
  for (const char* text : {"[]", "1", "null", "\"x\""}) {
    EXPECT_EQ(Refusal({MakeBundle(text, "{}")}), "IMPORT_INVALID inference.json") << text;
    EXPECT_EQ(Refusal({MakeBundle("{}", text)}), "IMPORT_INVALID metadata.json") << text;
  }
}

}  // namespace
}  // namespace tomoserve::models::importer
