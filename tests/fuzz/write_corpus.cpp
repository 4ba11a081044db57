// Writes the corpus: fuzz_corpus FOLDER makes FOLDER/dicom and FOLDER/reply.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "fuzz/seeds.h"
#include "tomoserve/base/status.h"

namespace {

using tomoserve::fuzz::Seed;

bool Write(const std::filesystem::path& folder, const std::vector<Seed>& seeds) {
  std::filesystem::create_directories(folder);
  for (const Seed& seed : seeds) {
    std::ofstream file(folder / seed.name, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(seed.bytes.data()),
               static_cast<std::streamsize>(seed.bytes.size()));
    if (!file.flush()) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_corpus FOLDER\n");
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  const auto runtime = tomoserve::dicom::Runtime::Create();
  if (!runtime.ok()) return 1;
  const auto seeds = tomoserve::fuzz::DicomSeeds(**runtime);
  if (!seeds.ok()) {
    std::fprintf(stderr, "fuzz_corpus: %s\n", tomoserve::base::ReasonOf(seeds.status()).c_str());
    return 1;
  }
  return Write(folder / "dicom", *seeds) && Write(folder / "reply", tomoserve::fuzz::ReplySeeds()) ? 0 : 1;
}
