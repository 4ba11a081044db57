// A known answer is added to a version as a whole, or not at all.
#include "apps/tomoctl/known_answer_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "models/known_answers.h"
#include "models/recipes.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/known_answer.h"
#include "tomoserve/models/repository.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

class KnownAnswerFilesTest : public ::testing::Test {
 protected:
  KnownAnswerFilesTest() {
    std::string pattern = (fs::temp_directory_path() / "known_answer_XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    fs::create_directories(Version());
    std::ofstream(Version() / "recipe.textproto") << models::kValidRecipe;
    std::ofstream(Version() / "model.ts") << "weights";
  }
  ~KnownAnswerFilesTest() override {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  fs::path Version() const { return root_ / "blob" / "1"; }
  // "CODE(value)" of the error; "" where all was written.
  std::string Added(const std::string& block, const std::vector<KnownAnswerFile>& files) {
    const absl::Status status = AddKnownAnswer(Version(), block, files);
    return status.ok() ? "" : base::ReasonOf(status) + "(" + base::ValueOf(status) + ")";
  }
  std::set<std::string> Names() const {
    std::set<std::string> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(Version())) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }
  bool IsAsItWas() const {
    return Names() == std::set<std::string>{"model.ts", "recipe.textproto"} &&
           models::ReadText(Version() / "recipe.textproto") == models::kValidRecipe;
  }
  static std::vector<KnownAnswerFile> Files() {
    return {{"known_answer.npy", models::NpyOf(models::kValues, "(2, 2, 3)")},
            {"known_answer_labels.npy", models::NpyOf(models::kLabels, "(2, 2, 3)")}};
  }

  fs::path root_;
};

TEST_F(KnownAnswerFilesTest, TheVersionHasItAndIsGood) {
  EXPECT_EQ(Added(models::kKnownAnswer, Files()), "");
  EXPECT_THAT(Names(),
              ElementsAre("known_answer.npy", "known_answer_labels.npy", "model.ts", "recipe.textproto"));
  const auto repository = models::Repository::Scan({root_.string()});
  ASSERT_TRUE(repository.ok()) << repository.status();
  ASSERT_EQ(repository->models().size(), 1u);
  EXPECT_TRUE(repository->models()[0].good()) << repository->models()[0].refused.text();
  EXPECT_TRUE(repository->models()[0].recipe.has_known_answer());
}

TEST_F(KnownAnswerFilesTest, WhatTheRepositoryWouldRefuseIsNotWritten) {
  std::vector<KnownAnswerFile> files = Files();
  files[0].bytes.resize(models::kMaxKnownAnswerBytes + 1);
  EXPECT_EQ(Added(models::kKnownAnswer, files), "FILE_TOO_LARGE(known_answer.npy)");
  EXPECT_TRUE(IsAsItWas());
  files = Files();
  files[1].bytes = models::NpyOf(models::kLabels, "(3, 2, 2)");
  EXPECT_EQ(Added(models::kKnownAnswer, files), "RECIPE_INVALID(known_answer.labels)");
  files.pop_back();
  EXPECT_EQ(Added(models::kKnownAnswer, files), "FILE_MISSING(known_answer_labels.npy)");
  EXPECT_EQ(Added("known_answer { }\n", Files()), "RECIPE_INVALID(known_answer.volume)");
  EXPECT_TRUE(IsAsItWas());
}

TEST_F(KnownAnswerFilesTest, WhatCannotBeWrittenLeavesTheVersionAsItWas) {
  fs::create_directories(Version() / "known_answer_labels.npy" / "in_the_way");
  EXPECT_EQ(Added(models::kKnownAnswer, Files()),
            "OUTPUT(" + (Version() / "known_answer_labels.npy").string() + ")");
  EXPECT_EQ(models::ReadText(Version() / "recipe.textproto"), models::kValidRecipe);
  for (const std::string& name : Names()) EXPECT_NE(name[0], '.') << name;
}

}  // namespace
}  // namespace tomoserve::tomoctl
