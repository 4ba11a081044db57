// tomoctl model import: a repository entry from TorchScript files that carry their own description.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "apps/tomoctl/verbs.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/import.h"

namespace tomoserve::tomoctl {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string output;
  models::ImportOptions import;
  bool no_mirroring = false;
};

int Failed(const absl::Status& status) {
  std::fprintf(stderr, "tomoctl: %s %s\n", base::ReasonOf(status).c_str(),
               std::string(status.message()).c_str());
  return kFailed;
}

int Import(Options options) {
  options.import.mirroring = !options.no_mirroring;
  const auto model = models::ReadModel(options.files, options.import);
  if (!model.ok()) return Failed(model.status());
  const auto folder = models::WriteModel(*model, options.output);
  if (!folder.ok()) return Failed(folder.status());
  for (const std::string& note : model->notes) std::fprintf(stderr, "to check: %s\n", note.c_str());
  std::printf("%s\n", folder->c_str());
  return kDone;
}

}  // namespace

void AddModelImport(CLI::App& model, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      model.add_subcommand("import", "Make a repository entry from a MONAI bundle or an nnU-Net model");
  verb->add_option("files", options->files,
                   "TorchScript files with their extra files; several are an ensemble, or with --composite "
                   "parts of one model")
      ->required()
      ->check(CLI::ExistingFile);
  verb->add_option("--output", options->output, "Folder of the repository; the entry is OUTPUT/NAME/1")
      ->required();
  verb->add_option("--name", options->import.name, "Name of the model (default: from the bundle)");
  verb->add_flag("--no-mirroring", options->no_mirroring, "Without nnU-Net's mirroring at test time");
  verb->add_flag(
      "--composite", options->import.composite,
      "Files of different models, which become one: each finds its own labels in the same prepared "
      "volume; folds of one model stay an ensemble");
  verb->add_option("--monai-version", options->import.monai_version,
                   "The MONAI version whose rules hold (default: the bundle's own)");
  verb->add_option("--modality", options->import.modalities,
                   "CT, MR or PT, whatever the bundle says; may be repeated")
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"CT", "MR", "PT"}));
  verb->callback([options, &context] { context.exit_code = Import(*options); });
}

}  // namespace tomoserve::tomoctl
