#include "tomoserve/models/repository.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "absl/strings/str_replace.h"
#include "models/names.h"
#include "models/recipes.h"
#include "shared_data.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"

namespace tomoserve::models {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

class RepositoryTest : public ::testing::Test {
 protected:
  RepositoryTest() {
    std::string pattern = (fs::temp_directory_path() / "models_test_XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~RepositoryTest() override {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }

  static void Write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  // A good entry in root_/FOLDER.
  void Add(const std::string& name, const std::string& version, const std::string& folder = "models",
           const std::string& weights = "weights") {
    Write(root_ / folder / name / version / "recipe.textproto", kValidRecipe);
    Write(root_ / folder / name / version / "model.ts", weights);
  }
  Repository Scan(const std::vector<std::string>& folders = {"models"}) {
    std::vector<std::string> paths;
    for (const std::string& folder : folders) paths.push_back((root_ / folder).string());
    auto repository = Repository::Scan(paths);
    EXPECT_TRUE(repository.ok()) << repository.status();
    return repository.ok() ? *std::move(repository) : Repository();
  }
  // The reason of the only entry.
  v1::Reason OnlyRefusal() {
    const Repository repository = Scan();
    EXPECT_EQ(repository.models().size(), 1U);
    return repository.models().empty() ? v1::Reason() : repository.models().front().refused;
  }

  fs::path root_;
};

TEST_F(RepositoryTest, ReadsAGoodEntryWithItsDigests) {
  Add("blob", "1");
  Write(root_ / "models/README", "not a model");
  Write(root_ / "models/.cache/x", "hidden");
  const Repository repository = Scan();
  ASSERT_EQ(repository.models().size(), 1U);
  const Model& model = repository.models()[0];
  EXPECT_TRUE(model.good()) << model.refused.text();
  EXPECT_EQ(model.name, "blob");
  EXPECT_EQ(model.version, "1");
  EXPECT_EQ(model.recipe.title(), "Blobs");
  EXPECT_EQ(model.recipe_digest, base::Sha256Hex(kValidRecipe));
  EXPECT_THAT(model.file_sha256, ElementsAre(base::Sha256Hex("weights")));
  EXPECT_EQ(model.model_digest.size(), 64U);
}

TEST_F(RepositoryTest, ModelDigestFollowsWeightsAndRecipe) {
  Add("a", "1", "models", "one");
  Add("a", "2", "models", "two");
  Add("a", "3", "models", "one");
  Add("b", "1", "models", "one");
  Write(root_ / "models/a/3/recipe.textproto",
        absl::StrReplaceAll(kValidRecipe, {{"overlap: 0.5", "overlap: 0.25"}}));
  const Repository repository = Scan();
  ASSERT_EQ(repository.models().size(), 4U);
  const std::string& first = repository.models()[0].model_digest;
  EXPECT_NE(repository.models()[1].model_digest, first);
  EXPECT_NE(repository.models()[2].model_digest, first);
  EXPECT_EQ(repository.models()[3].model_digest, first) << "the name is no content";
}

TEST_F(RepositoryTest, SortsVersionsAsNumbers) {
  for (const char* version : {"9", "10", "2.1", "2.10", "1"}) Add("blob", version);
  Add("ape", "3");
  std::vector<std::string> names;
  const Repository repository = Scan();
  for (const Model& model : repository.models()) names.push_back(model.name + "@" + model.version);
  EXPECT_THAT(names, ElementsAre("ape@3", "blob@1", "blob@2.1", "blob@2.10", "blob@9", "blob@10"));
  const auto found = repository.Find("blob", "");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ((*found)->version, "10");
}

TEST_F(RepositoryTest, FindsTheHighestGoodVersion) {
  Add("blob", "1");
  Add("blob", "2");
  Add("blob", "3");
  fs::remove(root_ / "models/blob/3/model.ts");
  const Repository repository = Scan();
  ASSERT_TRUE(repository.Find("blob", "").ok());
  EXPECT_EQ((*repository.Find("blob", ""))->version, "2");
  EXPECT_EQ((*repository.Find("blob", "1"))->version, "1");
}

TEST_F(RepositoryTest, FindSaysWhatIsUnknownOrRefused) {
  Add("blob", "1");
  fs::remove(root_ / "models/blob/1/model.ts");
  const Repository repository = Scan();
  const absl::Status model = repository.Find("nobody", "").status();
  EXPECT_EQ(model.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(model), "UNKNOWN_MODEL");
  const absl::Status version = repository.Find("blob", "7").status();
  EXPECT_EQ(version.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(version), "UNKNOWN_VERSION");
  for (const char* asked : {"", "1"}) {
    const absl::Status refused = repository.Find("blob", asked).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(base::ReasonOf(refused), "MODEL_REFUSED");
    EXPECT_EQ(base::ValueOf(refused), "FILE_MISSING");
  }
}

TEST_F(RepositoryTest, ABadEntryHurtsNobodyElse) {
  Add("bad", "1");
  Write(root_ / "models/bad/1/recipe.textproto", "title: ");
  Add("good", "1");
  const Repository repository = Scan();
  ASSERT_EQ(repository.models().size(), 2U);
  EXPECT_EQ(repository.models()[0].refused.code(), "RECIPE_SYNTAX");
  EXPECT_EQ(repository.models()[0].refused.value(), "1:8");
  EXPECT_TRUE(repository.models()[0].model_digest.empty());
  EXPECT_TRUE(repository.models()[1].good());
}

TEST_F(RepositoryTest, RefusesAMissingRecipe) {
  fs::create_directories(root_ / "models/blob/1");
  const v1::Reason reason = OnlyRefusal();
  EXPECT_EQ(reason.code(), "FILE_MISSING");
  EXPECT_EQ(reason.value(), "recipe.textproto");
}

TEST_F(RepositoryTest, RefusesAMissingNetwork) {
  Add("blob", "1");
  fs::remove(root_ / "models/blob/1/model.ts");
  const v1::Reason reason = OnlyRefusal();
  EXPECT_EQ(reason.code(), "FILE_MISSING");
  EXPECT_EQ(reason.value(), "model.ts");
}

TEST_F(RepositoryTest, RefusesAnEmptyNetwork) {
  Add("blob", "1", "models", "");
  EXPECT_EQ(OnlyRefusal().code(), "FILE_EMPTY");
}

TEST_F(RepositoryTest, RefusesAnInvalidAndAnUnsupportedRecipe) {
  Add("a", "1");
  Write(root_ / "models/a/1/recipe.textproto",
        absl::StrReplaceAll(kValidRecipe, {{"overlap: 0.5", "overlap: 2"}}));
  Add("b", "1");
  Write(root_ / "models/b/1/recipe.textproto",
        absl::StrReplaceAll(kValidRecipe, {{"MONAI interpolation: INTERPOLATION_LINEAR",
                                            "MONAI interpolation: INTERPOLATION_CUBIC"}}));
  const Repository repository = Scan();
  ASSERT_EQ(repository.models().size(), 2U);
  EXPECT_EQ(repository.models()[0].refused.code(), "RECIPE_INVALID");
  EXPECT_EQ(repository.models()[0].refused.value(), "windows.overlap");
  EXPECT_EQ(repository.models()[1].refused.code(), "RECIPE_UNSUPPORTED");
  EXPECT_EQ(repository.models()[1].refused.value(), "preparation.spacing.interpolation");
}

TEST_F(RepositoryTest, RefusesACascadeWhoseOtherModelCannotGiveTheRegion) {
  const auto add = [this](const std::string& name, const std::string& version, const std::string& region,
                          const std::map<std::string, std::string>& changes = {}) {
    Add(name, version);
    std::string text = absl::StrReplaceAll(kValidRecipe, changes);
    if (!region.empty()) {
      text += "decode { keep_in_region {} } region { model: \"" + region + "\" labels: 1 }";
    }
    Write(root_ / "models" / name / version / "recipe.textproto", text);
  };
  const std::string two = absl::StrReplaceAll(kValidRecipe, {{"output_channels: 2", "output_channels: 3"}});
  const std::string second = R"(labels {
    value: 2 name: "second" type { value: "1" scheme: "SCT" meaning: "x" }
    category { value: "1" scheme: "SCT" meaning: "x" } }
    decode { merge_labels { from: 1 into: 2 } }
  )";
  Add("a_source", "1");
  add("bad_region", "1", "nobody");
  add("cascade", "1", "a_source");
  add("detector", "1", "boxes");
  Add("boxes", "1");
  Write(root_ / "models/boxes/1/recipe.textproto",
        ReadText(SourceFolder() / "tests/models/bundles/lung_nodule_ct_detection.textproto"));
  add("of_cascade", "1", "cascade");
  add("itself", "1", "");
  add("itself", "2", "itself");
  Add("merged", "1");
  Write(root_ / "models/merged/1/recipe.textproto",
        absl::StrReplaceAll(
            two, {{"findings { label: 1", "findings { label: 2"}, {"flags { label: 1", "flags { label: 2"}}) +
            second);
  add("of_merged", "1", "merged");
  add("of_time", "1", "time");
  add("time", "1", "",
      {{"modalities: \"CT\"", "modalities: \"CT\" every_time_point: true"},
       {"lung_inside { min_volume_ml: 1000 margin_mm: 5 }", "not_needed { because: \"Tests.\" }"}});
  // Labels count as the highest good version has them.
  Write(root_ / "models/changed/1/recipe.textproto", kValidRecipe);
  Write(root_ / "models/changed/1/model.ts", "weights");
  add("changed", "2", "",
      {{"value: 1\n", "value: 3\n"},
       {"label: 1", "label: 3"},
       {"arg_max {}", "threshold { above: 0.5 }"},
       {"output_channels: 2", "output_channels: 1"},
       {"SOFTMAX", "SIGMOID"}});
  add("of_changed", "1", "changed");
  Add("fallen_back", "1");
  Write(root_ / "models/fallen_back/2/recipe.textproto", "title: ");
  add("of_fallen_back", "1", "fallen_back");

  std::map<std::string, std::string> refused;
  const Repository repository = Scan();
  for (const Model& model : repository.models()) {
    if (model.good()) continue;
    refused[model.name + "@" + model.version] = model.refused.code() + " " + model.refused.value();
    EXPECT_TRUE(model.model_digest.empty() && !model.recipe.has_region()) << model.name;
  }
  EXPECT_THAT(refused,
              ::testing::UnorderedElementsAre(std::pair("bad_region@1", "RECIPE_INVALID region.model"),
                                              std::pair("detector@1", "RECIPE_INVALID region.model"),
                                              std::pair("of_cascade@1", "RECIPE_INVALID region.model"),
                                              std::pair("itself@2", "RECIPE_INVALID region.model"),
                                              std::pair("of_merged@1", "RECIPE_INVALID region.labels[0]"),
                                              std::pair("of_time@1", "RECIPE_INVALID region.model"),
                                              std::pair("of_changed@1", "RECIPE_INVALID region.labels[0]"),
                                              std::pair("fallen_back@2", "RECIPE_SYNTAX 1:8")));
  EXPECT_TRUE(repository.Find("cascade", "").ok());
  const auto itself = repository.Find("itself", "");
  ASSERT_TRUE(itself.ok());
  EXPECT_EQ((*itself)->version, "1");
}

TEST_F(RepositoryTest, FollowsLinksToRegularFilesOnly) {
  Add("link", "1");
  fs::rename(root_ / "models/link/1/model.ts", root_ / "weights.ts");
  fs::create_symlink(root_ / "weights.ts", root_ / "models/link/1/model.ts");
  Add("folder", "1");
  fs::remove(root_ / "models/folder/1/model.ts");
  fs::create_directory_symlink(root_, root_ / "models/folder/1/model.ts");
  Add("dangling", "1");
  fs::remove(root_ / "models/dangling/1/model.ts");
  fs::create_symlink(root_ / "nothing", root_ / "models/dangling/1/model.ts");
  Add("fifo", "1");
  fs::remove(root_ / "models/fifo/1/model.ts");
  ASSERT_EQ(::mkfifo((root_ / "models/fifo/1/model.ts").c_str(), 0600), 0);
  std::map<std::string, std::string> codes;
  const Repository repository = Scan();
  for (const Model& model : repository.models()) codes[model.name] = model.refused.code();
  EXPECT_EQ(codes["link"], "");
  EXPECT_EQ(codes["folder"], "FILE_NOT_REGULAR");
  EXPECT_EQ(codes["dangling"], "FILE_MISSING");
  EXPECT_EQ(codes["fifo"], "FILE_NOT_REGULAR");
}

TEST_F(RepositoryTest, RefusesNamesThatAreNone) {
  Add("my model", "1");
  Add("gr\xC3\xB6\xFF", "1");
  Add(std::string(65, 'x'), "1");
  Add("blob", "1 beta");
  const Repository repository = Scan();
  ASSERT_EQ(repository.models().size(), 4U);
  std::vector<std::string> shown;
  for (const Model& model : repository.models()) {
    EXPECT_EQ(model.refused.code(), "NAME_INVALID") << model.name;
    shown.push_back(model.name + "@" + model.version);
  }
  EXPECT_THAT(shown, ElementsAre("blob@1?beta", "gr???@", "my?model@", std::string(64, 'x') + "@"));
}

TEST_F(RepositoryTest, RefusesAModelWithoutVersions) {
  Write(root_ / "models/blob/recipe.textproto", kValidRecipe);
  EXPECT_EQ(OnlyRefusal().code(), "VERSION_MISSING");
}

TEST_F(RepositoryTest, RefusesTheSecondOfTwoEqualNames) {
  Add("blob", "1", "first", "one");
  Add("blob", "1", "second", "two");
  Add("blob", "2", "second");
  const Repository repository = Scan({"first", "second"});
  ASSERT_EQ(repository.models().size(), 3U);
  EXPECT_TRUE(repository.models()[0].good());
  EXPECT_EQ(repository.models()[0].file_sha256[0], base::Sha256Hex("one"));
  EXPECT_EQ(repository.models()[1].refused.code(), "DUPLICATE_MODEL");
  EXPECT_EQ(repository.models()[1].refused.value(), "blob@1");
  EXPECT_TRUE(repository.models()[2].good());
  const auto found = repository.Find("blob", "1");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ((*found)->file_sha256[0], base::Sha256Hex("one"));
}

TEST_F(RepositoryTest, ScansAFolderThatIsNamedTwiceOnce) {
  Add("blob", "1");
  EXPECT_EQ(Scan({"models", "models"}).models().size(), 1U);
}

TEST_F(RepositoryTest, AnUnreadableFolderIsAnError) {
  const auto repository = Repository::Scan({(root_ / "nothing").string()});
  EXPECT_EQ(repository.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(repository.status()), "MODELS_FOLDER");
  Write(root_ / "file", "x");
  EXPECT_EQ(base::ReasonOf(Repository::Scan({(root_ / "file").string()}).status()), "MODELS_FOLDER");
  EXPECT_TRUE(Repository::Scan({}).ok());
}

TEST_F(RepositoryTest, OpensFilesReadOnlyAndSaysWhatWentAway) {
  Add("blob", "1");
  const Repository repository = Scan();
  ASSERT_EQ(repository.models().size(), 1U);
  {
    const auto files = Repository::OpenFiles(repository.models()[0]);
    ASSERT_TRUE(files.ok()) << files.status();
    ASSERT_EQ(files->size(), 1U);
    char buffer[16] = {};
    EXPECT_EQ(::read(files->front().get(), buffer, sizeof buffer), 7);
    EXPECT_STREQ(buffer, "weights");
    EXPECT_LT(::write(files->front().get(), "x", 1), 0);
  }
  fs::remove(root_ / "models/blob/1/model.ts");
  const auto gone = Repository::OpenFiles(repository.models()[0]);
  EXPECT_EQ(base::ReasonOf(gone.status()), "FILE_MISSING");
  EXPECT_EQ(base::ValueOf(gone.status()), "model.ts");
}

TEST_F(RepositoryTest, ReadsTheProjectsOwnModels) {
  const auto repository = Repository::Scan({(SourceFolder() / "models").string()});
  ASSERT_TRUE(repository.ok()) << repository.status();
  const auto model = repository->Find("nodule_blob", "");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_LT(fs::file_size(fs::path((*model)->folder) / "model.ts"), 200U * 1024);
}

TEST_F(RepositoryTest, SharedModelsScriptWritesARepository) {
  TS_SKIP_WITHOUT(testing::SharedModels() / "lung_2d" / "model.ts");
  const std::string command = "'" + (SourceFolder() / "script/shared-models").string() + "' '" +
                              (root_ / "models").string() + "' > '" + (root_ / "log").string() + "' 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0) << ReadText(root_ / "log");
  ASSERT_EQ(std::system(command.c_str()), 0) << "a second run: " << ReadText(root_ / "log");
  const Repository repository = Scan();
  ASSERT_EQ(repository.models().size(), 3U);
  for (const Model& model : repository.models())
    EXPECT_TRUE(model.good()) << model.name << model.refused.text();
  EXPECT_TRUE(repository.Find("lung_2d", "1").ok());
  EXPECT_TRUE(repository.Find("nodule_finder_d8", "1").ok());
  EXPECT_TRUE(repository.Find("nodule_finder_in_lung", "1").ok()) << "a cascade of the two";
}

TEST_F(RepositoryTest, SharedModelsScriptSaysWhatIsAbsentOrWrong) {
  const std::string script = "'" + (SourceFolder() / "script/shared-models").string() + "' '" +
                             (root_ / "models").string() + "' > '" + (root_ / "log").string() + "' 2>&1";
  const std::string absent = "TOMOSERVE_MODELS='" + (root_ / "nothing").string() + "' " + script;
  EXPECT_NE(std::system(absent.c_str()), 0);
  EXPECT_THAT(ReadText(root_ / "log"), ::testing::HasSubstr("absent"));
  Write(root_ / "weights/lung_2d/model.ts", "other weights");
  const std::string wrong = "TOMOSERVE_MODELS='" + (root_ / "weights").string() + "' " + script;
  EXPECT_NE(std::system(wrong.c_str()), 0);
  EXPECT_THAT(ReadText(root_ / "log"), ::testing::HasSubstr("SHA-256"));
  EXPECT_FALSE(fs::exists(root_ / "models"));
}

TEST(NamesTest, AllowsOnlySafeCharacters) {
  for (const char* good : {"a", "Lung_2d-v1.3", "9"}) EXPECT_TRUE(IsName(good)) << good;
  for (const char* bad : {"", ".", "..", ".a", "a/b", "a b", "a\\b", "\xC3\xA4", "a\n"})
    EXPECT_FALSE(IsName(bad)) << bad;
  EXPECT_TRUE(IsName(std::string(64, 'x')));
  EXPECT_FALSE(IsName(std::string(65, 'x')));
}

TEST(NamesTest, VersionsAreAStrictOrder) {
  const std::vector<std::string> ascending = {
      "1", "01", "1.2", "1.10", "1.10a", "2", "9", "10", "99999999999999999999", "100000000000000000000",
      "a", "a1", "b"};
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    for (std::size_t j = 0; j < ascending.size(); ++j) {
      EXPECT_EQ(OlderVersion(ascending[i], ascending[j]), i < j) << ascending[i] << " " << ascending[j];
    }
  }
}

}  // namespace
}  // namespace tomoserve::models
