// tomoserve-cpu-bench: times what the worker does beside the network on a CPU.
//
//   tomoserve-cpu-bench resample   --input FILE --size I,J,K --spacing I,J,K --to I,J,K [--output FILE]
//   tomoserve-cpu-bench components --input FILE --size I,J,K --spacing I,J,K [--output FILE]
//   tomoserve-cpu-bench windows    --input FILE --size I,J,K --spacing I,J,K --models FOLDER --name MODEL
//   each: [--threads N] [--repeat N]
//
// resample: int16 values [k][j][i], HU = stored - 1024, linear, to the spacing --to with MONAI's rule; writes
// float32. components: uint8 labels, 26 neighbours, each component with count, box and centroid; writes the
// number of each voxel's component from 1, uint32, 0 outside. windows: a whole run of a repository's model on
// one thread. Prints one JSON object. benchmarks/cpu/run drives it and puts Python beside it.
#include <CLI/CLI.hpp>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/measure.h"
#include "tomoserve/compute/resample.h"
#include "tomoserve/compute/stored_to_float.h"
#include "tomoserve/engine/network.h"
#include "tomoserve/engine/runtime.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/pipeline/prepared_run.h"

namespace tomoserve::bench {
namespace {

using nlohmann::json;

constexpr double kIntercept = -1024;

struct Options {
  std::string input;
  std::string output;
  std::string models;
  std::string name;
  std::vector<std::uint32_t> size_ijk;
  std::vector<double> spacing_mm;
  std::vector<double> to_mm;
  int threads = 1;
  int repeat = 3;
};

double Seconds(double begin_ms) { return (base::MonotonicMs() - begin_ms) / 1000; }

absl::StatusOr<std::vector<std::byte>> ReadFile(const std::string& path, std::size_t bytes) {
  std::vector<std::byte> content(bytes);
  std::ifstream stream(path, std::ios::binary);
  stream.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(bytes));
  if (!stream || stream.peek() != std::ifstream::traits_type::eof()) {
    return base::Error(absl::StatusCode::kInvalidArgument, "INPUT_SIZE", path,
                       "the file does not have as many values as the size says");
  }
  return content;
}

absl::Status WriteFile(const std::string& path, const void* values, std::size_t bytes) {
  if (path.empty()) return absl::OkStatus();
  std::ofstream stream(path, std::ios::binary);
  stream.write(static_cast<const char*>(values), static_cast<std::streamsize>(bytes));
  stream.close();
  if (!stream) return base::Error(absl::StatusCode::kDataLoss, "WRITE_FAILED", path, "cannot be written");
  return absl::OkStatus();
}

absl::StatusOr<volume::Geometry> GeometryOf(const Options& options) {
  v1::Geometry proto;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    proto.add_size_ijk(options.size_ijk[axis]);
    proto.add_spacing_mm(options.spacing_mm[axis]);
  }
  proto.mutable_origin_lps();
  for (int axis = 0; axis < 3; ++axis) {
    proto.add_direction_i(axis == 0 ? 1 : 0);
    proto.add_direction_j(axis == 1 ? 1 : 0);
    proto.add_direction_k(axis == 2 ? 1 : 0);
  }
  return volume::Geometry::FromProto(proto);
}

std::vector<compute::StoredSlice> SlicesOf(const Options& options, std::span<const std::byte> stored) {
  const std::size_t bytes = std::size_t{options.size_ijk[0]} * options.size_ijk[1] * sizeof(std::int16_t);
  std::vector<compute::StoredSlice> slices(options.size_ijk[2]);
  for (std::size_t k = 0; k < slices.size(); ++k) {
    slices[k].bytes = stored.subspan(k * bytes, bytes);
    slices[k].type = ipc::v1::STORED_TYPE_I16;
    slices[k].intercept = kIntercept;
  }
  return slices;
}

compute::GridMap MapOf(const Options& options) {
  compute::GridMap map;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto in = static_cast<std::int64_t>(options.size_ijk[axis]);
    const double step = options.to_mm[axis] / options.spacing_mm[axis];
    const auto out = static_cast<std::int64_t>(std::nearbyint(static_cast<double>(in - 1) / step + 1));
    map[2 - axis] = compute::MakeAxisTable(in, out, step, false, false);
  }
  return map;
}

absl::StatusOr<json> Resample(const Options& options) {
  const std::size_t voxels = std::size_t{options.size_ijk[0]} * options.size_ijk[1] * options.size_ijk[2];
  TS_ASSIGN_OR_RETURN(const auto stored, ReadFile(options.input, voxels * sizeof(std::int16_t)));
  const std::vector<compute::StoredSlice> slices = SlicesOf(options, stored);
  const compute::GridMap map = MapOf(options);
  const compute::Parallel parallel{options.threads, {}};
  json seconds = json::array();
  at::Tensor made;
  for (int n = 0; n < options.repeat; ++n) {
    made.reset();
    const double begin_ms = base::MonotonicMs();
    TS_ASSIGN_OR_RETURN(
        at::Tensor volume,
        compute::StoredToFloat(slices, {options.size_ijk[0], options.size_ijk[1], options.size_ijk[2]},
                               parallel));
    TS_ASSIGN_OR_RETURN(made, compute::Resample(std::move(volume), map, v1::INTERPOLATION_LINEAR, parallel));
    seconds.push_back(Seconds(begin_ms));
  }
  TS_RETURN_IF_ERROR(WriteFile(options.output, made.const_data_ptr(), made.nbytes()));
  return json{{"seconds", seconds}, {"size_kji", {made.size(0), made.size(1), made.size(2)}}};
}

// Each voxel's component, from 1.
std::vector<std::uint32_t> Numbered(const compute::ComponentSet& set, const Options& options) {
  const std::size_t columns = options.size_ijk[0];
  std::vector<std::uint32_t> numbers(columns * options.size_ijk[1] * options.size_ijk[2]);
  for (std::size_t c = 0; c < set.components.size(); ++c) {
    for (const compute::RowRun& run : set.RunsOf(set.components[c])) {
      const std::size_t row =
          static_cast<std::size_t>(run.k) * options.size_ijk[1] + static_cast<std::size_t>(run.j);
      std::fill_n(numbers.begin() + static_cast<std::ptrdiff_t>(row * columns) + run.first_i, run.voxels(),
                  static_cast<std::uint32_t>(c + 1));
    }
  }
  return numbers;
}

absl::StatusOr<json> Components(const Options& options) {
  const auto [columns, rows, slices] =
      std::array<std::int64_t, 3>{options.size_ijk[0], options.size_ijk[1], options.size_ijk[2]};
  TS_ASSIGN_OR_RETURN(const auto labels,
                      ReadFile(options.input, static_cast<std::size_t>(columns * rows * slices)));
  TS_ASSIGN_OR_RETURN(const volume::Geometry geometry, GeometryOf(options));
  const compute::LabelGrid<const std::uint8_t> grid{
      {reinterpret_cast<const std::uint8_t*>(labels.data()), labels.size()}, {slices, rows, columns}};
  json seconds = json::array();
  compute::ComponentSet set;
  std::vector<compute::Extent> extents;
  for (int n = 0; n < options.repeat; ++n) {
    set = {};
    extents.clear();
    const double begin_ms = base::MonotonicMs();
    TS_ASSIGN_OR_RETURN(set, compute::FindComponents<std::uint8_t>(grid, {options.threads, {}}));
    extents.reserve(set.components.size());
    for (const compute::Component& component : set.components) {
      extents.push_back(compute::MeasureExtent(set.RunsOf(component), geometry));
    }
    seconds.push_back(Seconds(begin_ms));
  }
  const std::vector<std::uint32_t> numbers = Numbered(set, options);
  TS_RETURN_IF_ERROR(WriteFile(options.output, numbers.data(), numbers.size() * sizeof(std::uint32_t)));
  json found = json::array();
  for (const compute::Extent& extent : extents) {
    json centroid_ijk = json::array();
    for (std::size_t axis = 0; axis < 3; ++axis) {
      centroid_ijk.push_back(extent.centroid_lps.mm[axis] / options.spacing_mm[axis]);
    }
    found.push_back({extent.voxels, extent.first_ijk, extent.last_ijk, centroid_ijk});
  }
  return json{{"seconds", seconds}, {"components", found}};
}

absl::StatusOr<std::shared_ptr<engine::Network>> Load(const models::Model& model) {
  TS_ASSIGN_OR_RETURN(const auto files, models::Repository::OpenFiles(model));
  std::vector<int> fds;
  // Those of a known answer come after them.
  const std::size_t count = models::NetworkFiles(model.recipe).size();
  for (std::size_t n = 0; n < count; ++n) fds.push_back(files[n].get());
  TS_ASSIGN_OR_RETURN(std::shared_ptr<engine::Network> network,
                      engine::Network::Load(fds, model.recipe, std::span(model.file_sha256).first(count)));
  TS_RETURN_IF_ERROR(network->WarmUp().status());
  return network;
}

absl::StatusOr<json> Windows(const Options& options) {
  engine::InitialiseTorch();
  engine::UseOneThread();
  TS_ASSIGN_OR_RETURN(const auto repository, models::Repository::Scan({options.models}));
  TS_ASSIGN_OR_RETURN(const models::Model* const model, repository.Find(options.name, ""));
  TS_ASSIGN_OR_RETURN(const std::shared_ptr<engine::Network> network, Load(*model));
  TS_ASSIGN_OR_RETURN(const volume::Geometry geometry, GeometryOf(options));
  TS_ASSIGN_OR_RETURN(const auto stored, ReadFile(options.input, geometry.voxels() * sizeof(std::int16_t)));
  json runs = json::array();
  std::vector<std::byte> labels(geometry.voxels());
  for (int n = 0; n < options.repeat; ++n) {
    TS_ASSIGN_OR_RETURN(const auto run, pipeline::PreparedRun::Create(model->recipe, geometry,
                                                                      SlicesOf(options, stored), {1, {}}));
    double forward_s = 0;
    double gather_and_check_s = 0;
    double fold_s = 0;
    for (std::uint32_t window = 0; window < run->windows(); ++window) {
      const double begin_ms = base::MonotonicMs();
      double in_network_s = 0;
      TS_ASSIGN_OR_RETURN(
          pipeline::Outputs outputs,
          run->ForwardWindow(window, [&](const at::Tensor& input) -> absl::StatusOr<pipeline::Outputs> {
            const double forward_ms = base::MonotonicMs();
            auto output = network->Forward(input);
            in_network_s += Seconds(forward_ms);
            return output;
          }));
      forward_s += in_network_s;
      gather_and_check_s += Seconds(begin_ms) - in_network_s;
      const double fold_ms = base::MonotonicMs();
      TS_RETURN_IF_ERROR(run->Fold(window, std::move(outputs)));
      fold_s += Seconds(fold_ms);
    }
    TS_ASSIGN_OR_RETURN(const pipeline::RunResult result, run->Finish(labels, 1));
    json entry{{"windows", run->windows()},
               {"network_s", forward_s},
               {"gather_s", gather_and_check_s},
               {"blend_s", fold_s}};
    for (const v1::StageTiming& timing : result.timings) {
      if (timing.stage() == "labels" || timing.stage() == "prepare" || timing.stage() == "measure") {
        entry[timing.stage() + "_s"] = timing.ms() / 1000;
      }
    }
    runs.push_back(entry);
  }
  return json{{"runs", runs}};
}

int Main(int argc, char** argv) {
  CLI::App app{"Times resampling, components and windows on a CPU."};
  Options options;
  std::string mode;
  app.add_option("mode", mode)->required()->check(CLI::IsMember({"resample", "components", "windows"}));
  app.add_option("--input", options.input)->required();
  app.add_option("--size", options.size_ijk)->delimiter(',')->expected(3)->required();
  app.add_option("--spacing", options.spacing_mm)->delimiter(',')->expected(3)->required();
  app.add_option("--to", options.to_mm)->delimiter(',')->expected(3);
  app.add_option("--models", options.models);
  app.add_option("--name", options.name);
  app.add_option("--output", options.output);
  app.add_option("--threads", options.threads)->check(CLI::Range(1, 1024));
  app.add_option("--repeat", options.repeat)->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  if (mode == "resample" && options.to_mm.empty()) {
    std::cerr << "tomoserve-cpu-bench: resample needs --to\n";
    return 2;
  }
  const auto answer = mode == "resample"     ? Resample(options)
                      : mode == "components" ? Components(options)
                                             : Windows(options);
  if (!answer.ok()) {
    std::cerr << "tomoserve-cpu-bench: " << base::ReasonOf(answer.status()) << ": "
              << answer.status().message() << '\n';
    return 1;
  }
  std::cout << answer->dump() << '\n';
  return 0;
}

}  // namespace
}  // namespace tomoserve::bench

int main(int argc, char** argv) { return tomoserve::bench::Main(argc, argv); }
