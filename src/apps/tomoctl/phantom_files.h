// A phantom as files: a DICOM series, or a NumPy array.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tomoserve/ipc/helper_pool.h"
#include "tomoserve/phantom/phantom.h"

namespace tomoserve::tomoctl {

struct SeriesOptions {
  std::string transfer_syntax;  // UID
  std::string date;             // YYYYMMDD, of the study
  std::string description;      // of the series; empty: what the phantom is
  std::string name = {};        // another one for each series of a study that says the same; seeds its UIDs
  std::string contrast_agent = {};  // of the images, at most 64 letters; empty: none
};

// Writes IM0001.dcm, ... along k. UIDs are seeded with everything that decides the bytes, so the same call
// writes the same instances again. Errors: OUTPUT where the folder cannot be written, or the helper's.
absl::Status WriteSeries(const std::filesystem::path& folder, const phantom::Options& options,
                         const phantom::Phantom& phantom, const SeriesOptions& series,
                         ipc::HelperPool& helpers);

// An array, its last axis the fastest, as the bytes of a version 1.0 .npy file: `type` is NumPy's ("<i2",
// "|u1", "<u2"), `data` its values.
std::string ArrayBytes(const std::vector<std::uint64_t>& shape, const char* type,
                       std::span<const std::byte> data);

// Writes values as a version 1.0 .npy file: int16 little-endian, shape (k, j, i), C order. Errors: OUTPUT.
absl::Status WriteNpy(const std::filesystem::path& file, const phantom::Phantom& phantom);

// Writes labels likewise: uint8, shape (k, j, i). They must have been asked for. Errors: OUTPUT.
absl::Status WriteLabelsNpy(const std::filesystem::path& file, const phantom::Phantom& phantom);

// Errors: OUTPUT.
absl::Status WriteText(const std::filesystem::path& file, const std::string& text);

}  // namespace tomoserve::tomoctl
