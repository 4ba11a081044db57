#include "apps/tomoctl/phantom_files.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

// Instances written at a time take about this much memory.
constexpr std::uint64_t kBatchBytes = 64ull << 20;
// HU are stored as 12 bits above this.
constexpr std::int16_t kCtIntercept = -1024;

absl::Status OutputFailed(const fs::path& path) {
  return base::Error(absl::StatusCode::kInternal, "OUTPUT", path.string(),
                     absl::StrCat("cannot write to ", path.string()));
}

absl::Status WriteFile(const fs::path& path, std::span<const std::byte> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return file.flush() ? absl::OkStatus() : OutputFailed(path);
}

std::uint32_t NumberAt(const std::string& bytes, std::size_t at, std::size_t count) {
  std::uint32_t number = 0;
  for (std::size_t n = 0; n < count; ++n) {
    number |= std::uint32_t{static_cast<unsigned char>(bytes[at + n])} << (8 * n);
  }
  return number;
}

// Puts Contrast/Bolus Agent (0018,0010) in its place among the elements of a file that a helper has just
// written, which all have explicit VRs in little-endian order and, before that place, a length (PS3.5 7.1.2).
absl::Status InsertAgent(std::string agent, std::string& file) {
  constexpr std::size_t kFirstElement = 132;  // after the preamble and "DICM"
  constexpr std::uint32_t kAgent = 0x00180010;
  constexpr std::string_view kLongVrs[] = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ",
                                           "SV", "UC", "UN", "UR", "UT", "UV"};
  std::size_t at = kFirstElement;
  while (at + 12 <= file.size()) {
    const std::uint32_t tag = NumberAt(file, at, 2) << 16 | NumberAt(file, at + 2, 2);
    if (tag >= kAgent) break;
    const std::string_view vr = std::string_view(file).substr(at + 4, 2);
    const bool is_long = std::find(std::begin(kLongVrs), std::end(kLongVrs), vr) != std::end(kLongVrs);
    at += is_long ? 12 + std::size_t{NumberAt(file, at + 8, 4)} : 8 + std::size_t{NumberAt(file, at + 6, 2)};
  }
  if (at + 12 > file.size()) {
    return base::Error(absl::StatusCode::kInternal, "OUTPUT", "0018,0010", "the file has no such place");
  }
  agent.resize((agent.size() + 1) / 2 * 2, ' ');
  std::string element("\x18\x00\x10\x00LO", 6);
  element += static_cast<char>(agent.size());
  element += '\0';
  file.insert(at, element + agent);
  return absl::OkStatus();
}

// What is the same for all instances of the series.
ipc::v1::SyntheticInstance Common(const phantom::Options& options, const phantom::Phantom& phantom,
                                  const SeriesOptions& series) {
  const bool ct = options.modality == phantom::Modality::kCt;
  const volume::Geometry& grid = phantom.geometry;
  const std::string study_seed =
      absl::StrCat("phantom|", phantom::TruthJson(options, phantom), "|", series.date);
  ipc::v1::SyntheticInstance instance;
  instance.set_modality(ct ? "CT" : "MR");
  instance.set_transfer_syntax(series.transfer_syntax);
  instance.set_study_instance_uid(base::UidFromSeed(absl::StrCat(study_seed, "|study")));
  instance.set_frame_of_reference_uid(base::UidFromSeed(absl::StrCat(study_seed, "|frame")));
  // An encoding is other content: it never shares a UID.
  instance.set_series_instance_uid(base::UidFromSeed(
      absl::StrCat(study_seed, "|series|", series.transfer_syntax, series.description.empty() ? "" : "|",
                   series.description, series.name.empty() ? "" : "|", series.name,
                   series.contrast_agent.empty() ? "" : "|agent ", series.contrast_agent)));
  instance.set_patient_id(absl::StrCat("PHANTOM-", options.seed));
  instance.set_patient_name(ct ? "Phantom^Chest" : "Phantom^Head");
  instance.set_accession_number(absl::StrCat("P", options.seed).substr(0, 16));
  instance.set_date(series.date);
  instance.set_time("120000");
  instance.set_rows(grid.size_ijk()[1]);
  instance.set_columns(grid.size_ijk()[0]);
  instance.set_stored_type(ipc::v1::STORED_TYPE_U16);
  instance.set_bits_stored(12);
  instance.set_rescale_slope(1);
  instance.set_rescale_intercept(ct ? kCtIntercept : 0);
  // Distance between rows first (PS3.3 10.7.1.3).
  instance.add_pixel_spacing_mm(grid.spacing_mm()[1]);
  instance.add_pixel_spacing_mm(grid.spacing_mm()[0]);
  instance.set_slice_thickness_mm(grid.spacing_mm()[2]);
  for (std::size_t axis = 0; axis < 2; ++axis) {
    for (const double cosine : grid.directions()[axis]) instance.add_image_orientation(cosine);
  }
  instance.set_series_description(!series.description.empty() ? series.description
                                  : ct                        ? "Synthetic chest"
                                                              : "Synthetic head");
  instance.set_acquisition_number(1);
  instance.set_body_part(ct ? "CHEST" : "HEAD");
  return instance;
}

absl::Status StoreSlice(const ipc::Arena& arena, std::uint32_t slot, std::span<const std::int16_t> values,
                        std::int16_t intercept) {
  const ipc::v1::Slot where = arena.slot(slot);
  TS_ASSIGN_OR_RETURN(
      const ipc::Mapping mapping,
      ipc::Mapping::Map(arena.fds()[where.arena()], where.offset(), where.bytes(), /*writable=*/true));
  std::vector<std::uint16_t> stored(values.size());
  std::transform(values.begin(), values.end(), stored.begin(),
                 [&](std::int16_t value) { return static_cast<std::uint16_t>(value - intercept); });
  std::memcpy(mapping.bytes().data(), stored.data(), 2 * stored.size());
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteSeries(const fs::path& folder, const phantom::Options& options,
                         const phantom::Phantom& phantom, const SeriesOptions& series,
                         ipc::HelperPool& helpers) {
  const volume::Geometry& grid = phantom.geometry;
  const std::uint32_t slices = grid.size_ijk()[2];
  const std::uint64_t pixels = std::uint64_t{grid.size_ijk()[0]} * grid.size_ijk()[1];
  // Noise may not compress; RLE may even grow by a part in 128.
  const std::uint64_t file_bytes = 2 * pixels + pixels / 8 + (64 << 10);
  const auto batch =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>(kBatchBytes / file_bytes, 1, slices));
  const ipc::v1::SyntheticInstance common = Common(options, phantom, series);
  const auto intercept = static_cast<std::int16_t>(common.rescale_intercept());

  for (std::uint32_t first = 0; first < slices; first += batch) {
    const std::uint32_t count = std::min(batch, slices - first);
    TS_ASSIGN_OR_RETURN(const auto stored, ipc::Arena::Create(2 * pixels, count, nullptr));
    TS_ASSIGN_OR_RETURN(const auto files, ipc::Arena::Create(file_bytes, count, nullptr));
    std::vector<ipc::HelperPool::Write> items;
    for (std::uint32_t n = 0; n < count; ++n) {
      const std::uint32_t k = first + n;
      TS_RETURN_IF_ERROR(
          StoreSlice(*stored, n, std::span(phantom.values).subspan(k * pixels, pixels), intercept));
      ipc::HelperPool::Write item{common, n, n};
      item.instance.set_sop_instance_uid(
          base::UidFromSeed(absl::StrCat(common.series_instance_uid(), "|", k)));
      item.instance.set_instance_number(k + 1);
      for (const double coordinate : grid.ToLps({{0, 0, static_cast<double>(k)}}).mm) {
        item.instance.add_image_position(coordinate);
      }
      items.push_back(std::move(item));
    }
    const auto written = helpers.WriteInstances(items, *stored, *files);
    for (std::uint32_t n = 0; n < count; ++n) {
      TS_RETURN_IF_ERROR(written[n].status());
      TS_ASSIGN_OR_RETURN(const ipc::Mapping file, files->Read(n));
      std::string bytes(reinterpret_cast<const char*>(file.bytes().data()), *written[n]);
      if (!series.contrast_agent.empty()) TS_RETURN_IF_ERROR(InsertAgent(series.contrast_agent, bytes));
      TS_RETURN_IF_ERROR(WriteText(folder / absl::StrFormat("IM%04u.dcm", first + n + 1), bytes));
    }
  }
  return absl::OkStatus();
}

std::string ArrayBytes(const std::vector<std::uint64_t>& shape, const char* type,
                       std::span<const std::byte> data) {
  static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");
  std::string dictionary = absl::StrCat("{'descr': '", type, "', 'fortran_order': False, 'shape': (",
                                        absl::StrJoin(shape, ", "), "), }");
  // Magic, version and length take 10 bytes; the whole header is a multiple of 64 and ends with a newline.
  dictionary.resize((dictionary.size() + 11 + 63) / 64 * 64 - 11, ' ');
  dictionary += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(dictionary.size() & 0xFF);
  bytes += static_cast<char>(dictionary.size() >> 8);
  bytes += dictionary;
  bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
  return bytes;
}

absl::Status WriteNpy(const fs::path& file, const phantom::Phantom& phantom) {
  const auto& [i, j, k] = phantom.geometry.size_ijk();
  return WriteText(file, ArrayBytes({k, j, i}, "<i2", std::as_bytes(std::span(phantom.values))));
}

absl::Status WriteLabelsNpy(const fs::path& file, const phantom::Phantom& phantom) {
  const auto& [i, j, k] = phantom.geometry.size_ijk();
  return WriteText(file, ArrayBytes({k, j, i}, "|u1", std::as_bytes(std::span(phantom.labels))));
}

absl::Status WriteText(const fs::path& file, const std::string& text) {
  return WriteFile(file, std::as_bytes(std::span(text)));
}

}  // namespace tomoserve::tomoctl
