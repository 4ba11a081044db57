// tomoctl phantom: a synthetic series with known truth.
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/tomoctl/local_study.h"
#include "apps/tomoctl/phantom_files.h"
#include "apps/tomoctl/verbs.h"
#include "tomoserve/base/status.h"
#include "tomoserve/phantom/phantom.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

struct Options {
  phantom::Options phantom;
  std::string output;
  std::string raw;
  std::string raw_labels;
  bool no_dicom = false;
  std::vector<double> nodule_mm{6, 20};
  std::uint32_t size = 256;
  std::uint32_t slices = 120;
  std::vector<double> spacing{1.4, 1.4, 2.5};
  std::string syntax = "1.2.840.10008.1.2.1";
  std::string date;
};

const std::map<std::string, phantom::Modality> kModalities{{"ct", phantom::Modality::kCt},
                                                           {"mr", phantom::Modality::kMr}};
const std::map<std::string, phantom::Kernel> kKernels{{"none", phantom::Kernel::kNone},
                                                      {"smooth", phantom::Kernel::kSmooth},
                                                      {"standard", phantom::Kernel::kStandard},
                                                      {"sharp", phantom::Kernel::kSharp}};
const std::map<std::string, std::string> kSyntaxes{
    {"explicit", "1.2.840.10008.1.2.1"},         {"implicit", "1.2.840.10008.1.2"},
    {"big-endian", "1.2.840.10008.1.2.2"},       {"rle", "1.2.840.10008.1.2.5"},
    {"jpeg-lossless", "1.2.840.10008.1.2.4.70"}, {"jpeg-ls", "1.2.840.10008.1.2.4.80"},
    {"jpeg-2000", "1.2.840.10008.1.2.4.90"}};

std::string Today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[16];
  return std::strftime(text, sizeof text, "%Y%m%d", &parts) == 8 ? text : "";
}

int Phantom(Options options) {
  const auto fail = [](const absl::Status& status) {
    std::cerr << "tomoctl: " << base::ReasonOf(status)
              << (base::ValueOf(status).empty() ? "" : "(" + base::ValueOf(status) + ")") << ": "
              << status.message() << '\n';
    return base::ReasonOf(status) == "PHANTOM_OPTIONS" ? kUsage : kFailed;
  };
  options.phantom.size_ijk = {options.size, options.size, options.slices};
  std::copy(options.spacing.begin(), options.spacing.end(), options.phantom.spacing_mm.begin());
  std::copy(options.nodule_mm.begin(), options.nodule_mm.end(), options.phantom.nodule_mm.begin());
  options.phantom.labels = !options.raw_labels.empty();
  const auto made = phantom::MakePhantom(options.phantom);
  if (!made.ok()) return fail(made.status());

  const fs::path folder = options.output;
  std::error_code error;
  fs::create_directories(folder, error);
  absl::Status status;
  if (!options.no_dicom) {
    const auto helpers = StartHelpers();
    if (!helpers.ok()) return fail(helpers.status());
    status = WriteSeries(folder, options.phantom, *made,
                         {options.syntax, options.date.empty() ? Today() : options.date, ""}, **helpers);
  }
  if (status.ok()) status = WriteText(folder / "truth.json", phantom::TruthJson(options.phantom, *made));
  if (status.ok() && !options.raw.empty()) status = WriteNpy(options.raw, *made);
  if (status.ok() && !options.raw_labels.empty()) status = WriteLabelsNpy(options.raw_labels, *made);
  if (!status.ok()) return fail(status);
  std::printf("%s: %u slices of %u x %u, %zu nodules, truth in %s\n", folder.c_str(), options.slices,
              options.size, options.size, made->nodules.size(), (folder / "truth.json").c_str());
  return kDone;
}

}  // namespace

void AddPhantom(CLI::App& app, Context& context) {
  CLI::App* verb =
      app.add_subcommand("phantom", "Write a synthetic series with known truth; needs no server");
  const auto options = std::make_shared<Options>();
  verb->add_option("--output", options->output, "Folder for IM0001.dcm, ... and truth.json")->required();
  verb->add_option("--modality", options->phantom.modality, "ct (chest) or mr (head)")
      ->transform(CLI::CheckedTransformer(kModalities, CLI::ignore_case));
  verb->add_option("--size", options->size, "Rows and columns")->capture_default_str();
  verb->add_option("--slices", options->slices, "Slices")->capture_default_str();
  verb->add_option("--spacing", options->spacing, "Voxel spacing along i,j,k, mm (1.4,1.4,2.5)")
      ->delimiter(',')
      ->expected(3);
  verb->add_option("--orientation", options->phantom.orientation,
                   "Where rows, columns and slices run towards, e.g. LPS (axial), PIR (sagittal)")
      ->capture_default_str();
  verb->add_option("--syntax", options->syntax, "Transfer syntax")
      ->transform(CLI::CheckedTransformer(kSyntaxes, CLI::ignore_case));
  verb->add_option("--nodules", options->phantom.nodules, "Nodules (ct)")->capture_default_str();
  verb->add_option("--nodule-size", options->nodule_mm, "Smallest,largest diameter of nodules, mm (6,20)")
      ->delimiter(',')
      ->expected(2);
  verb->add_option("--part-solid", options->phantom.part_solid,
                   "Probability that a nodule of 6 mm or more has ground glass around a solid core")
      ->capture_default_str();
  verb->add_option("--pleural", options->phantom.pleural, "Probability that a nodule lies on the pleura")
      ->capture_default_str();
  verb->add_option("--lobulated", options->phantom.lobulated, "Probability that a nodule has lobes")
      ->capture_default_str();
  verb->add_option("--look-alikes", options->phantom.look_alikes,
                   "Vessel crossings and branchings, scars, thick pleura (ct)")
      ->capture_default_str();
  verb->add_option("--vary", options->phantom.vary,
                   "How much the anatomy differs between seeds: 0 (not at all) to 1")
      ->capture_default_str();
  verb->add_option("--seed", options->phantom.seed, "Seed of anatomy, nodules, vessels and noise")
      ->capture_default_str();
  verb->add_option("--noise", options->phantom.noise_hu, "Standard deviation of the noise")
      ->capture_default_str();
  verb->add_option("--kernel", options->phantom.kernel,
                   "none (white noise), smooth, standard or sharp: blur of edges and grain of the noise")
      ->transform(CLI::CheckedTransformer(kKernels, CLI::ignore_case));
  verb->add_option("--date", options->date, "Study date YYYYMMDD; without: today")
      ->check(
          CLI::TypeValidator<std::uint32_t>() &
          CLI::Validator([](const std::string& text) { return text.size() == 8 ? "" : "is not YYYYMMDD"; },
                         "YYYYMMDD"));
  verb->add_option("--raw", options->raw, "Also the values as a .npy file, int16 [k][j][i]");
  verb->add_option("--raw-labels", options->raw_labels,
                   "Also which voxels are nodules, as a .npy file, uint8 [k][j][i]: 0 none, 1 the first");
  verb->add_flag("--no-dicom", options->no_dicom, "Only truth.json and the .npy files");
  verb->callback([options, &context] { context.exit_code = Phantom(*options); });
}

}  // namespace tomoserve::tomoctl
