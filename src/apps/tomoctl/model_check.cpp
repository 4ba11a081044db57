// tomoctl model check: loads one version of a model into a server of its own and lets it look at one body
// that lies in the scanner in eight ways.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "apps/tomoctl/check_study.h"
#include "apps/tomoctl/client.h"
#include "apps/tomoctl/known_answer.h"
#include "apps/tomoctl/local_study.h"
#include "apps/tomoctl/orientations.h"
#include "apps/tomoctl/own_server.h"
#include "apps/tomoctl/verbs.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/v1/model_service.grpc.pb.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

// Loading and warming up, with a slow disk and a large ensemble.
constexpr auto kStartTime = std::chrono::minutes(20);

struct Options {
  std::string folder;
  std::string devices = "cpu";
  std::uint32_t size = 120;
  double spacing_mm = 2;
  bool write_known_answer = false;
};

absl::Status OfServer(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

absl::Status WrongFolder(const std::string& folder, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "MODELS_FOLDER", folder, text);
}

absl::Status Refused(const v1::Reason& reason, const std::string& text) {
  return base::Error(absl::StatusCode::kFailedPrecondition, reason.code(), reason.value(), text);
}

// A folder of links: the server hashes what they lead to.
absl::Status LinkVersion(const fs::path& version, const fs::path& models) {
  std::error_code error;
  const fs::path folder = models / version.parent_path().filename() / version.filename();
  fs::create_directories(folder, error);
  fs::directory_iterator entry(version, error);
  while (!error && entry != fs::directory_iterator()) {
    fs::create_symlink(entry->path(), folder / entry->path().filename(), error);
    if (!error) entry.increment(error);
  }
  return error ? WrongFolder(version.string(), error.message()) : absl::OkStatus();
}

// Of a cascade all versions of the model that gives the region, where they are there; the repository judges.
absl::Status LinkRegion(const fs::path& version, const fs::path& models) {
  std::ifstream file(version / "recipe.textproto");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto recipe = models::ParseRecipe(text);
  if (!recipe.ok() || !recipe->has_region()) return absl::OkStatus();
  const fs::path region = version.parent_path().parent_path() / recipe->region().model();
  std::error_code error;
  if (region == version.parent_path() || !fs::is_directory(region, error)) return absl::OkStatus();
  for (const fs::directory_entry& entry : fs::directory_iterator(region, error)) {
    if (entry.is_directory(error)) TS_RETURN_IF_ERROR(LinkVersion(entry.path(), models));
  }
  return absl::OkStatus();
}

// The version alone in a repository of its own, and beside it what its recipe's region needs.
absl::StatusOr<models::Model> MakeRepository(const std::string& folder, const fs::path& models) {
  std::error_code error;
  const fs::path version = fs::canonical(folder, error);
  if (error || !fs::is_regular_file(version / "recipe.textproto", error)) {
    return WrongFolder(folder, "no folder of a version, as MODELS/NAME/1 with recipe.textproto in it");
  }
  TS_RETURN_IF_ERROR(LinkVersion(version, models));
  TS_RETURN_IF_ERROR(LinkRegion(version, models));
  TS_ASSIGN_OR_RETURN(const models::Repository repository, models::Repository::Scan({models.string()}));
  const fs::path linked = models / version.parent_path().filename() / version.filename();
  for (const models::Model& model : repository.models()) {
    if (!fs::equivalent(model.folder, linked, error)) continue;
    if (model.good()) return model;
    return Refused(model.refused, model.refused.text());
  }
  return WrongFolder(folder, "a version without a name");
}

absl::StatusOr<phantom::Options> PhantomFor(const v1::Recipe& recipe, const Options& options) {
  const auto takes = [&](const char* modality) {
    return std::all_of(recipe.inputs().begin(), recipe.inputs().end(), [&](const v1::Input& input) {
      const auto& accepted = input.modalities();
      return std::find(accepted.begin(), accepted.end(), modality) != accepted.end();
    });
  };
  if (!takes("CT") && !takes("MR")) {
    return base::Error(absl::StatusCode::kUnimplemented, "CHECK_UNSUPPORTED", "modalities",
                       "the phantom is a CT of a chest or an MR of a head; this model takes neither");
  }
  phantom::Options phantom;
  phantom.modality = takes("CT") ? phantom::Modality::kCt : phantom::Modality::kMr;
  phantom.size_ijk = {options.size, options.size, options.size};
  phantom.spacing_mm = {options.spacing_mm, options.spacing_mm, options.spacing_mm};
  return phantom;
}

// "x=96, y=96, z=all" in the order of the network's axes.
std::string Sizes(const v1::Recipe& recipe) {
  const v1::Network& network = recipe.network();
  std::vector<std::string> sizes;
  for (const char axis :
       absl::AsciiStrToLower(WithoutPrefix(v1::TensorAxes_Name(network.axes()), "TENSOR_AXES_"))) {
    const int d = axis - 'x';
    const bool said = d >= 0 && d < recipe.windows().size_size() && recipe.windows().size(d) > 0;
    // Of a network of slices the third axis is that of the slices.
    if (network.spatial_dims() == 2 && axis == 'z') continue;
    sizes.push_back(
        absl::StrCat(std::string(1, axis), "=", said ? absl::StrCat(recipe.windows().size(d)) : "all"));
  }
  return absl::StrJoin(sizes, ", ");
}

void PrintSignature(const models::Model& model) {
  const v1::Recipe& recipe = model.recipe;
  const v1::Preparation& preparation = recipe.preparation();
  std::string grid = preparation.orientation().empty() ? "the volume's own axes" : preparation.orientation();
  if (preparation.has_spacing()) {
    absl::StrAppend(&grid, " at ", absl::StrJoin(preparation.spacing().spacing_mm(), " x "), " mm");
  }
  const std::string sizes = Sizes(recipe);
  const std::string labels =
      absl::StrJoin(recipe.labels(), ", ", [](std::string* out, const v1::Label& label) {
        absl::StrAppend(out, label.value(), " ", label.name());
      });
  std::printf("%s %s: %s\n", model.name.c_str(), model.version.c_str(), recipe.title().c_str());
  std::printf("input    [N, %u, %s], %s\n", recipe.network().input_channels(), sizes.c_str(), grid.c_str());
  for (const v1::Part& part : recipe.network().parts()) {
    std::printf("part     %s: [N, %u, %s], %d file%s\n", part.name().c_str(), part.output_channels(),
                sizes.c_str(), part.files_size(), part.files_size() == 1 ? "" : "s");
  }
  if (models::IsComposite(recipe)) {
    std::printf("labels   %s\n", labels.c_str());
  } else {
    std::printf("output   [N, %u, %s]; labels: %s\n", recipe.network().output_channels(), sizes.c_str(),
                labels.c_str());
  }
  std::fflush(stdout);
}

// What the worker says of the network that it has loaded. Errors: why it refused it.
absl::Status PrintLoaded(const models::Model& model, const std::string& address) {
  const auto stub = v1::ModelService::NewStub(Connect(address));
  v1::GetModelRequest request;
  request.set_name(model.name);
  request.set_version(model.version);
  v1::GetModelResponse response;
  grpc::ClientContext call;
  const grpc::Status status = stub->GetModel(&call, request, &response);
  if (!status.ok()) return OfServer(status);
  for (const v1::DeviceReadiness& device : response.model().devices()) {
    if (device.readiness() != v1::MODEL_READINESS_WARM) {
      return Refused(device.reason(), absl::StrCat(device.device(), ": ", device.reason().text()));
    }
    std::printf("loaded   %s: weights %.1f MB, %.1f ms a window\n", device.device().c_str(),
                static_cast<double>(device.weight_bytes()) / 1e6, device.ms_per_window());
  }
  return absl::OkStatus();
}

// True where all orientations have one answer.
absl::StatusOr<bool> LookAtAll(const models::Model& model, phantom::Options phantom, const fs::path& folder,
                               ipc::HelperPool& helpers, v1::StudyService::Stub& stub) {
  std::map<std::uint32_t, std::string> names;
  for (const v1::Label& label : model.recipe.labels()) names[label.value()] = label.name();
  const std::vector<std::string> orientations = OrientationsFor(model.recipe);
  std::optional<PatientAnswer> first;
  bool good = !orientations.empty();
  bool hides_sides = false;
  std::printf("%-11s %8s  %8s  %8s\n", "orientation", "seconds", "findings", "alike");
  for (const std::string& orientation : orientations) {
    phantom.orientation = orientation;
    TS_ASSIGN_OR_RETURN(const phantom::Phantom made, phantom::MakePhantom(phantom));
    TS_ASSIGN_OR_RETURN(Outcome outcome, Look(model, phantom, made, folder / "study", helpers, stub));
    const v1::Run& run = outcome.run;
    std::printf("%-11s %8.1f  %8d  ", orientation.c_str(), outcome.seconds, run.findings_size());
    if (!Looked(run)) {
      std::printf("%8s  FAILED  %s\n", "", Describe(run).c_str());
      good = false;
      continue;
    }
    Comparison same{true, 1, ""};
    if (first) same = Compare(*first, outcome.answer, names, phantom.spacing_mm[0]);
    std::vector<std::string> texts = WrongSides(outcome.answer, names);
    const bool fits = same.same && texts.empty();
    if (!same.text.empty()) texts.push_back(same.text);
    std::printf("%8.4f  %s%s%s\n", same.likeness, fits ? "OK" : "FAILED", texts.empty() ? "" : "  ",
                absl::StrJoin(texts, "; ").c_str());
    std::fflush(stdout);
    good = good && fits;
    hides_sides = hides_sides || (same.same && absl::StrContains(same.text, "left-right"));
    if (!first) first = std::move(outcome.answer);
  }
  if (first && first->empty()) {
    std::puts("FAILED: the model marks nothing in the phantom, so that its sides cannot be compared");
    return false;
  }
  if (good && hides_sides)
    std::puts("NOTE: the answer is as good as symmetric: a left-right swap was not excluded");
  return good;
}

// The model's answer on a part of the phantom, around what it marks there, becomes its known one.
absl::Status LookAndWrite(const models::Model& model, phantom::Options phantom, const Options& options,
                          const fs::path& folder, ipc::HelperPool& helpers, v1::StudyService::Stub& stub) {
  phantom.orientation = OrientationsFor(model.recipe).front();
  TS_ASSIGN_OR_RETURN(const phantom::Phantom whole, phantom::MakePhantom(phantom));
  TS_ASSIGN_OR_RETURN(const Outcome first, Look(model, phantom, whole, folder / "study", helpers, stub));
  volume::LpsPoint middle;
  if (first.run.findings_size() > 0) {
    const v1::PointLps& centre = first.run.findings(0).centre_lps();
    middle.mm = {centre.x_mm(), centre.y_mm(), centre.z_mm()};
  }
  TS_ASSIGN_OR_RETURN(phantom::Phantom part, PartAround(whole, middle, kKnownAnswerSize));
  TS_ASSIGN_OR_RETURN(Outcome outcome, Look(model, phantom, part, folder / "study", helpers, stub));
  if (!Looked(outcome.run) || outcome.answer.empty()) {
    std::puts("NOTE: the model says nothing of a part of the phantom: its known answer is that of the whole");
    part = whole;
    outcome = first;
  }
  std::error_code error;
  TS_ASSIGN_OR_RETURN(const std::string line,
                      WriteKnownAnswer(fs::canonical(options.folder, error), model, phantom, part, outcome));
  std::printf("written  %s; the version has another digest now\n", line.c_str());
  return absl::OkStatus();
}

absl::StatusOr<bool> Check(const Options& options) {
  TS_ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Make());
  const fs::path models = folder.path() / "models";
  TS_ASSIGN_OR_RETURN(const models::Model model, MakeRepository(options.folder, models));
  if (options.write_known_answer) TS_RETURN_IF_ERROR(CanKnow(model));
  PrintSignature(model);
  TS_ASSIGN_OR_RETURN(const phantom::Options phantom, PhantomFor(model.recipe, options));
  TS_ASSIGN_OR_RETURN(const OwnServer server,
                      OwnServer::Start(folder.path(), models, options.devices, kStartTime));
  TS_RETURN_IF_ERROR(PrintLoaded(model, server.address()));
  std::fflush(stdout);
  TS_ASSIGN_OR_RETURN(const auto helpers, StartHelpers());
  const auto stub = v1::StudyService::NewStub(Connect(server.address()));
  TS_ASSIGN_OR_RETURN(const bool good, LookAtAll(model, phantom, folder.path(), *helpers, *stub));
  std::printf("memory   %.0f MB at most in the worker's process, libraries included\n",
              static_cast<double>(server.WorkerPeakBytes()) / 1e6);
  if (good && options.write_known_answer) {
    TS_RETURN_IF_ERROR(LookAndWrite(model, phantom, options, folder.path(), *helpers, *stub));
  } else if (options.write_known_answer) {
    std::puts("NOTE: no known answer was written");
  }
  std::puts(good ? "OK" : "FAILED");
  return good;
}

int Run(const Options& options) {
  const auto good = Check(options);
  if (good.ok()) return *good ? kDone : kFailed;
  std::fflush(stdout);
  const std::string value = base::ValueOf(good.status());
  std::fprintf(stderr, "tomoctl: %s%s: %s\n", base::ReasonOf(good.status()).c_str(),
               value.empty() ? "" : absl::StrCat("(", value, ")").c_str(),
               std::string(good.status().message()).c_str());
  return base::ReasonOf(good.status()) == "MODELS_FOLDER" ? kUsage : kFailed;
}

}  // namespace

void AddModelCheck(CLI::App& model, Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* verb = model.add_subcommand(
      "check", "Load a model in a server of its own and run it on a phantom in eight orientations");
  verb->add_option("folder", options->folder, "Folder of one version, MODELS/NAME/1")
      ->required()
      ->check(CLI::ExistingDirectory);
  verb->add_option("--devices", options->devices, "cpu, cuda:N or auto")->capture_default_str();
  verb->add_option("--size", options->size, "Voxels along each axis of the phantom")
      ->capture_default_str()
      ->check(CLI::Range(16, 512));
  verb->add_option("--spacing", options->spacing_mm, "Distance of its voxels, mm")
      ->capture_default_str()
      ->check(CLI::Range(0.2, 10.0));
  verb->add_flag(
      "--write-known-answer", options->write_known_answer,
      "Then write a known answer into the folder: a part of the phantom, at most 64 x 64 x 40 voxels, "
      "and what the model says of it on the CPU. Every device that loads the version has to give the "
      "same answer: all but 0.1 % of the labelled voxels (or 3 voxels), boxes within 0.1 mm and 0.005 "
      "of the score");
  verb->callback([options, &context] {
    if (options->write_known_answer && options->devices != "cpu") {
      throw CLI::ValidationError("--write-known-answer", "the answer is that of a CPU: leave --devices out");
    }
    context.exit_code = Run(*options);
  });
}

}  // namespace tomoserve::tomoctl
