// TorchScript archives for the importer's tests: a zip with code that nobody runs and the files of a bundle.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <zip.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "models/import/draft.h"
#include "models/import/json.h"
#include "models/recipes.h"
#include "shared_data.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/import.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::models::importer {

// A folder of the test that is running, removed at its end.
class ImportTest : public ::testing::Test {
 protected:
  ImportTest() : folder_(std::filesystem::temp_directory_path() / ("import-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~ImportTest() override { std::filesystem::remove_all(folder_); }

  const std::filesystem::path& folder() const { return folder_; }

  // An archive of these members; "model/code/a.py" is added where `code` says so.
  std::string MakeArchive(const std::string& name, const std::map<std::string, std::string>& members,
                          bool code = true) {
    const std::string path = (folder_ / name).string();
    int error = 0;
    zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &error);
    EXPECT_NE(archive, nullptr) << error;
    const auto add = [archive](const std::string& member, const std::string& text) {
      zip_source_t* source = zip_source_buffer(archive, text.data(), text.size(), 0);
      EXPECT_GE(zip_file_add(archive, member.c_str(), source, 0), 0) << member;
    };
    const std::string program = "def forward(self, x): return x\n";
    if (code) add("model/code/a.py", program);
    for (const auto& [member, text] : members) add(member, text);
    EXPECT_EQ(zip_close(archive), 0);
    return path;
  }

  std::string MakeBundle(const std::string& inference, const std::string& metadata) {
    return MakeArchive("bundle.ts",
                       {{"model/extra/inference.json", inference}, {"model/extra/metadata.json", metadata}});
  }
  std::string MakeBundleOf(const Json& inference, const Json& metadata) {
    return MakeBundle(inference.dump(), metadata.dump());
  }
  std::string MakeNnunet(const Json& plans, const Json& dataset, const Json& checkpoint,
                         const std::string& name = "nnunet.ts", const Json& postprocessing = {}) {
    std::map<std::string, std::string> members = {{"model/extra/plans.json", plans.dump()},
                                                  {"model/extra/dataset.json", dataset.dump()},
                                                  {"model/extra/checkpoint.json", checkpoint.dump()}};
    if (!postprocessing.is_null()) members["model/extra/postprocessing.json"] = postprocessing.dump();
    return MakeArchive(name, members);
  }

 private:
  std::filesystem::path folder_;
};

// The entry of these files, which must be valid and whose text must say the same.
inline ImportedModel MustImport(const std::vector<std::string>& files, const ImportOptions& options = {}) {
  const auto model = Compose(files, options);
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok()) return {};
  v1::Recipe parsed;
  const absl::Status text = base::ParseTextproto(model->recipe_text, "RECIPE_SYNTAX", parsed);
  EXPECT_TRUE(text.ok()) << text << "\n" << model->recipe_text;
  EXPECT_EQ(parsed.SerializeAsString(), model->recipe.SerializeAsString()) << model->recipe_text;
  const absl::Status valid = ValidateRecipe(model->recipe);
  EXPECT_TRUE(valid.ok()) << valid << model->recipe_text;
  return *model;
}

// Why the import is refused: "CODE value".
inline std::string Refusal(const std::vector<std::string>& files, const ImportOptions& options = {}) {
  const auto model = ReadModel(files, options);
  if (model.ok()) return "imported";
  return base::ReasonOf(model.status()) + " " + base::ValueOf(model.status());
}

inline std::vector<double> Numbers(const google::protobuf::RepeatedField<double>& values) {
  return {values.begin(), values.end()};
}
inline std::vector<unsigned> Numbers(const google::protobuf::RepeatedField<std::uint32_t>& values) {
  return {values.begin(), values.end()};
}

}  // namespace tomoserve::models::importer
