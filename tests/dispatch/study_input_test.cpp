// What the digest of a run's input depends on.
#include "dispatch/study_input.h"

#include <gtest/gtest.h>

#include "dispatch/fake_dicom.h"
#include "dispatch/instance_rules.h"
#include "dispatch/submission.h"
#include "tomoserve/base/digest.h"

namespace tomoserve::dispatch {
namespace {

class StudyInputTest : public ::testing::Test {
 protected:
  StudyInputTest() {
    v1::Input& input = *recipe_.add_inputs();
    input.set_name("image");
    input.add_modalities("CT");
    input.set_when_missing(v1::WHEN_MISSING_WARN);
    const FakeStudy study;
    study_.study_uid = study.study_uid;
    for (std::uint32_t k = 0; k < study.slices; ++k) {
      store::StoredInstance& instance = study_.instances.emplace_back();
      instance.header = study.Header(k);
      instance.sop_uid = instance.header.sop_instance_uid();
      instance.sha256 = base::Sha256Hex(instance.sop_uid);
    }
    study_.series = series::BuildStudy(SeriesInstances(study_.instances, {}));
  }

  RunInput Choose() const {
    RunInput input = ChooseInput(recipe_, std::make_shared<StudyInput>(study_));
    EXPECT_NE(input.selection.volume(), nullptr);
    return input;
  }
  series::VolumeSlice& slice(std::size_t k) { return study_.series.series.at(0).volumes.at(0).slices.at(k); }

  v1::Recipe recipe_;
  StudyInput study_;
};

TEST_F(StudyInputTest, WhereNothingIsMissingTheDigestIsThatOfTheInstances) {
  std::string lines;
  for (const store::StoredInstance& instance : study_.instances)
    lines += instance.sop_uid + " " + instance.sha256 + "\n";
  EXPECT_EQ(Choose().digest, base::Sha256Hex(lines));
  study_.expected["1.2.3.4"] = 8;
  EXPECT_EQ(Choose().digest, base::Sha256Hex(lines));
}

TEST_F(StudyInputTest, WhatIsMissingIsPartOfTheDigest) {
  std::set<std::string> digests{Choose().digest};
  study_.expected["1.2.3.4"] = 9;
  EXPECT_EQ(Choose().missing, 1u);
  digests.insert(Choose().digest);
  study_.expected["1.2.3.4"] = 10;
  digests.insert(Choose().digest);
  study_.expected["1.2.3.5"] = 1;
  EXPECT_EQ(Choose().incomplete_series, 1u);
  digests.insert(Choose().digest);
  study_.expected["1.2.3.4"] = 8;
  digests.insert(Choose().digest);
  EXPECT_EQ(digests.size(), 5u);
}

TEST_F(StudyInputTest, WithoutAVolumeNothingIsMissing) {
  const v1::Reason reason = MakeReason("STALE_STUDY", "", "too old");
  const std::string digest = WithoutVolume(Choose(), reason).digest;
  study_.expected["1.2.3.4"] = 10;
  EXPECT_NE(Choose().digest, digest);
  EXPECT_EQ(WithoutVolume(Choose(), reason).digest, digest);
}

TEST_F(StudyInputTest, FramesAndTilesOfOneInstanceDiffer) {
  std::set<std::string> digests{Choose().digest};
  slice(2).frame = 1;
  digests.insert(Choose().digest);
  slice(2).frame = 2;
  digests.insert(Choose().digest);
  slice(2).frame = 0;
  slice(2).tile.emplace();
  digests.insert(Choose().digest);
  slice(2).tile->set_first_row(8);
  digests.insert(Choose().digest);
  slice(2).tile->set_first_row(0);
  slice(2).tile->set_first_column(8);
  digests.insert(Choose().digest);
  EXPECT_EQ(digests.size(), 6u);
}

}  // namespace
}  // namespace tomoserve::dispatch
