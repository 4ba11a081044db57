// The files of a known answer in the repository.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "models/known_answers.h"
#include "models/recipes.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/repository.h"

namespace tomoserve::models {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::SizeIs;

class KnownAnswerFilesTest : public ::testing::Test {
 protected:
  KnownAnswerFilesTest() {
    std::string pattern = (fs::temp_directory_path() / "known_answer_XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    fs::create_directories(Entry());
    Write("recipe.textproto", absl::StrCat(kValidRecipe, kKnownAnswer));
    Write("model.ts", "weights");
    Write("known_answer.npy", NpyOf(kValues, "(2, 2, 3)"));
    Write("known_answer_labels.npy", NpyOf(kLabels, "(2, 2, 3)"));
  }
  ~KnownAnswerFilesTest() override {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  fs::path Entry() const { return root_ / "blob" / "1"; }
  void Write(const std::string& file, const std::string& bytes) {
    std::ofstream(Entry() / file, std::ios::binary) << bytes;
  }
  Model Scanned() {
    auto repository = Repository::Scan({root_.string()});
    EXPECT_TRUE(repository.ok()) << repository.status();
    return repository.ok() && repository->models().size() == 1 ? repository->models()[0] : Model();
  }
  // "CODE(value)" of the entry's refusal.
  std::string Refusal() {
    const Model model = Scanned();
    return model.refused.code() + "(" + model.refused.value() + ")";
  }

  fs::path root_;
};

TEST_F(KnownAnswerFilesTest, CountInTheDigestAndTravelAfterTheNetwork) {
  const Model model = Scanned();
  ASSERT_TRUE(model.good()) << model.refused.text();
  EXPECT_THAT(model.file_sha256,
              ElementsAre(base::Sha256Hex("weights"), base::Sha256Hex(NpyOf(kValues, "(2, 2, 3)")),
                          base::Sha256Hex(NpyOf(kLabels, "(2, 2, 3)"))));
  const auto files = Repository::OpenFiles(model);
  ASSERT_TRUE(files.ok()) << files.status();
  ASSERT_THAT(*files, SizeIs(3));
  for (std::size_t n = 0; n < 3; ++n) {
    EXPECT_EQ(*base::Sha256HexOfFile((*files)[n].get()), model.file_sha256[n]);
  }
  std::vector<std::uint8_t> labels = kLabels;
  labels[1] = 0;
  Write("known_answer_labels.npy", NpyOf(labels, "(2, 2, 3)"));
  EXPECT_NE(Scanned().model_digest, model.model_digest) << "another answer is another version";
}

TEST_F(KnownAnswerFilesTest, OneThatIsMissingOrWrongRefusesTheEntry) {
  Write("known_answer.npy", NpyOf(kValues, "(2, 3, 2)"));
  EXPECT_EQ(Refusal(), "RECIPE_INVALID(known_answer.volume)");
  Write("known_answer.npy", "");
  EXPECT_EQ(Refusal(), "FILE_EMPTY(known_answer.npy)");
  fs::remove(Entry() / "known_answer.npy");
  EXPECT_EQ(Refusal(), "FILE_MISSING(known_answer.npy)");
  fs::create_directory(Entry() / "known_answer.npy");
  EXPECT_EQ(Refusal(), "FILE_NOT_REGULAR(known_answer.npy)");
}

TEST_F(KnownAnswerFilesTest, ALargeFileIsNotRead) {
  fs::resize_file(Entry() / "known_answer.npy", (std::uint64_t{64} << 20) + 1);
  EXPECT_EQ(Refusal(), "FILE_TOO_LARGE(known_answer.npy)");
}

}  // namespace
}  // namespace tomoserve::models
