// Runs on more than one volume: several inputs, and series of several time points.
#include <zstd.h>

#include "dispatch/fixture.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr char kInput[] = "inputs { name: \"image\" modalities: \"MR\" when_missing: WHEN_MISSING_WARN }";

// Bright where a series says: slice k has its bright voxel `shift` columns further.
struct Sequence {
  std::string name;
  std::uint32_t shift = 0;
  int time = 0;  // Temporal Position Identifier; 0: none
  double origin_mm = 10;
};

class InputsTest : public DispatchTest {
 protected:
  static std::vector<std::string> Files(const Sequence& sequence) {
    FakeStudy study;
    study.modality = "MR";
    study.series_uid = sequence.time == 0 ? "1.2.3." + std::to_string(10 + sequence.shift) : "1.2.3.4";
    std::vector<std::string> files;
    for (std::uint32_t k = 0; k < study.slices; ++k) {
      ipc::v1::InstanceHeader header = study.Header(k);
      header.set_series_description(sequence.name);
      header.set_frame_of_reference_uid("1.2.3.9");
      header.set_image_position(0, sequence.origin_mm);
      if (sequence.time != 0) {
        header.set_temporal_position(sequence.time);
        header.set_sop_instance_uid("1.2.3.4." + std::to_string(1000 * sequence.time + static_cast<int>(k)));
      }
      files.push_back(FakeFile(header, study.Pixels(k + sequence.shift)));
    }
    return files;
  }
  static std::vector<std::string> Files(const std::vector<Sequence>& sequences) {
    std::vector<std::string> files;
    for (const Sequence& sequence : sequences) {
      for (std::string& file : Files(sequence)) files.push_back(std::move(file));
    }
    return files;
  }
  // A model of two channels: T1 and T2.
  void AddPair() {
    AddModel("m", "ok", "MR");
    EditRecipe("m", kInput,
               "inputs { name: \"t1\" modalities: \"MR\" phase_texts: \"T1\" }\n"
               "inputs { name: \"t2\" modalities: \"MR\" phase_texts: \"T2\" }");
    EditRecipe("m", "input_channels: 1", "input_channels: 2");
  }
  v1::Run Run(const std::vector<Sequence>& sequences) {
    return WaitForRun(MustSubmit(Wanting({"m"}), Files(sequences)).run_ids(0));
  }
  // Label maps of a run, [t][k][j][i].
  std::string Labels(const std::string& run_id) {
    const auto blob = dispatcher_->store().GetLabelMap(run_id);
    EXPECT_TRUE(blob.ok()) << blob.status();
    if (!blob.ok()) return "";
    std::string voxels(blob->raw_bytes, '\0');
    EXPECT_EQ(ZSTD_decompress(voxels.data(), voxels.size(), blob->zstd.data(), blob->zstd.size()),
              voxels.size());
    return voxels;
  }
};

TEST_F(InputsTest, EachChannelIsTheSeriesThatItsInputNames) {
  AddPair();
  Start();
  // The fake worker answers for the last channel.
  const v1::Run run = Run({{.name = "ax T2", .shift = 3}, {.name = "ax T1"}});
  ASSERT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
  ASSERT_THAT(run.findings(), SizeIs(1));
  EXPECT_EQ(run.label_map().time_points(), 1u);
  const std::string labels = Labels(run.run_id());
  ASSERT_EQ(labels.size(), 8u * 8 * 6);
  for (std::uint32_t k = 0; k < 8; ++k) EXPECT_EQ(labels[k * 48 + ((k + 3) % 8) * 6 + (k + 3) % 6], 1) << k;
  EXPECT_EQ(run.findings(0).key_sop_instance_uid(), "1.2.3.10.100")
      << "the first input's slices have the names";
  std::vector<bool> analysed;
  for (const v1::SeriesUse& use : run.coverage().series()) analysed.push_back(use.analysed());
  EXPECT_THAT(analysed, UnorderedElementsAre(true, true));
}

TEST_F(InputsTest, WithoutOneOfItsInputsARunIsNotApplicable) {
  AddPair();
  Start();
  const v1::Run run = Run({{.name = "ax T1"}});
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_NOT_APPLICABLE);
  EXPECT_EQ(run.flag().reasons(0).code(), "INPUT_MISSING");
}

TEST_F(InputsTest, InputsOnDifferentGridsAreNotPutTogether) {
  AddPair();
  Start();
  const v1::Run run = Run({{.name = "ax T1"}, {.name = "ax T2", .shift = 1, .origin_mm = 12}});
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_EQ(run.flag().reasons(0).code(), "INPUTS_DIFFER");
}

TEST_F(InputsTest, WhichSeriesIsWhichInputIsPartOfTheInput) {
  AddPair();
  AddModel("swapped", "ok", "MR");
  EditRecipe("swapped", kInput,
             "inputs { name: \"t1\" modalities: \"MR\" phase_texts: \"T2\" }\n"
             "inputs { name: \"t2\" modalities: \"MR\" phase_texts: \"T1\" }");
  EditRecipe("swapped", "input_channels: 1", "input_channels: 2");
  Start();
  const auto receipt =
      MustSubmit(Wanting({"m", "swapped"}), Files({{.name = "ax T1"}, {.name = "ax T2", .shift = 3}}));
  EXPECT_NE(WaitForRun(receipt.run_ids(0)).provenance().input_digest(),
            WaitForRun(receipt.run_ids(1)).provenance().input_digest());
}

TEST_F(InputsTest, EveryTimePointIsAnalysedAndNamed) {
  AddModel("m", "ok", "MR");
  EditRecipe("m", "modalities", "every_time_point: true modalities");
  Start();
  const v1::Run run = Run({{.name = "cine", .shift = 2, .time = 10}, {.name = "cine", .time = 2}});
  ASSERT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
  EXPECT_EQ(run.label_map().time_points(), 2u);
  ASSERT_THAT(run.findings(), SizeIs(2));
  for (const v1::Finding& finding : run.findings()) {
    EXPECT_EQ(finding.key_sop_instance_uid(), finding.time_point() == 0 ? "1.2.3.4.2000" : "1.2.3.4.10000");
  }
  EXPECT_NE(run.findings(0).tracking_uid(), run.findings(1).tracking_uid());
  const std::string labels = Labels(run.run_id());
  ASSERT_EQ(labels.size(), 2u * 8 * 8 * 6);
  for (std::uint32_t k = 0; k < 8; ++k) {
    EXPECT_EQ(labels[k * 48 + (k % 8) * 6 + k % 6], 1) << k;
    EXPECT_EQ(labels[384 + k * 48 + ((k + 2) % 8) * 6 + (k + 2) % 6], 1) << k;
  }
}

}  // namespace
}  // namespace tomoserve::dispatch
