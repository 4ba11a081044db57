// What the header pass takes from PET images and from private elements.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dicom/enhanced_files.h"
#include "dicom/siemens_files.h"
#include "tomoserve/dicom/header.h"

namespace tomoserve::dicom {
namespace {

using ::testing::ElementsAre;
using testing::EnhancedWriter;
using testing::FileBuilder;
using ::testing::IsEmpty;
using testing::SequenceStyle;

ipc::v1::InstanceHeader Read(const FileBuilder& file) {
  const auto header = ReadHeader(file.bytes(), Limits{});
  EXPECT_TRUE(header.ok()) << header.status();
  return header.ok() ? *header : ipc::v1::InstanceHeader();
}

FileBuilder Image(std::string_view modality, std::string_view sop_class,
                  const std::vector<FileBuilder>& elements) {
  FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
  file.Text(0x00080016, "UI", sop_class).Text(0x00080060, "CS", modality);
  for (const FileBuilder& element : elements) file.Raw(element.bytes());
  file.Pixels(2, 2, 16, 16, 15, false);
  return EnhancedWriter::AddPixels(file, 1);
}
FileBuilder Mr(const std::vector<FileBuilder>& elements) {
  return Image("MR", "1.2.840.10008.5.1.4.1.1.4", elements);
}

std::vector<std::string> Repairs(const ipc::v1::InstanceHeader& header) {
  std::vector<std::string> codes;
  for (const auto& repair : header.repairs()) codes.push_back(repair.code() + repair.value());
  return codes;
}

TEST(PetTest, ReadsWhatAnUptakeValueNeeds) {
  for (const auto syntax : {kExplicitLittleEndian, kImplicitLittleEndian}) {
    const EnhancedWriter write(SequenceStyle{syntax, true, false});
    FileBuilder file = FileBuilder::WithMeta(syntax);
    file.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.128").Text(0x00080021, "DA", "20250102");
    file.Text(0x00080022, "DA", "20250103").Text(0x00080031, "TM", "101112").Text(0x00080060, "CS", "PT");
    file.Text(0x00101030, "DS", "71.5").Text(0x00280051, "CS", "DECY\\ATTN").Pixels(2, 2, 16, 16, 15, false);
    file.Raw(
        write
            .Group(0x00540016,
                   {write.Text(0x00181072, "TM", "091500"), write.Text(0x00181074, "DS", "3.7e8"),
                    write.Text(0x00181075, "DS", "6586.2"), write.Text(0x00181078, "DT", "20250102091500")})
            .bytes());
    file.Text(0x00541001, "CS", "BQML").Text(0x00541006, "CS", "BW").Text(0x00541102, "CS", "START");
    const auto header = Read(EnhancedWriter::AddPixels(file, 1));
    const ipc::v1::PetHeader& pet = header.pet();
    EXPECT_EQ(pet.units(), "BQML");
    EXPECT_EQ(pet.suv_type(), "BW");
    EXPECT_EQ(pet.decay_correction(), "START");
    EXPECT_THAT(pet.corrected_image(), ElementsAre("DECY", "ATTN"));
    EXPECT_EQ(pet.dose_bq(), 3.7e8);
    EXPECT_EQ(pet.half_life_s(), 6586.2);
    EXPECT_EQ(pet.injection_datetime(), "20250102091500");
    EXPECT_EQ(pet.injection_time(), "091500");
    EXPECT_EQ(pet.series_date(), "20250102");
    EXPECT_EQ(pet.series_time(), "101112");
    EXPECT_EQ(pet.acquisition_date(), "20250103");
    EXPECT_EQ(pet.patient_weight_kg(), 71.5);
  }
}

TEST(PetTest, AbsentValuesStayAbsentAndOtherModalitiesHaveNone) {
  const auto header = Read(Image("PT", "1.2.840.10008.5.1.4.1.1.128", {}));
  ASSERT_TRUE(header.has_pet());
  EXPECT_EQ(header.pet().units(), "");
  EXPECT_FALSE(header.pet().has_dose_bq());
  EXPECT_FALSE(header.pet().has_patient_weight_kg());
  EXPECT_FALSE(Read(Mr({})).has_pet());
}

TEST(DiffusionTest, StandardValuesOfClassicImages) {
  const EnhancedWriter write(SequenceStyle{});
  const auto header = Read(Mr({write.Fd(0x00189087, {700}), write.Fd(0x00189089, {0, 0.6, 0.8})}));
  EXPECT_EQ(header.diffusion_b_value(), 700);
  EXPECT_THAT(header.diffusion_direction(), ElementsAre(0, 0.6, 0.8));
}

TEST(DiffusionTest, PrivateValuesOfThreeVendors) {
  const EnhancedWriter write(SequenceStyle{});
  const auto siemens = Read(Mr({write.Text(0x00190011, "LO", "SIEMENS MR HEADER"),
                                write.Text(0x0019110C, "IS", "1000"), write.Fd(0x0019110E, {1, 0, 0})}));
  EXPECT_EQ(siemens.diffusion_b_value(), 1000);
  EXPECT_THAT(siemens.diffusion_direction(), ElementsAre(1, 0, 0));
  for (const std::string_view value : {"800\\8\\0\\0", "1000000800\\8\\0\\0"}) {
    const auto ge =
        Read(Mr({write.Text(0x00430010, "LO", "GEMS_PARM_01"), write.Text(0x00431039, "IS", value)}));
    EXPECT_EQ(ge.diffusion_b_value(), 800) << value;
    EXPECT_THAT(ge.diffusion_direction(), IsEmpty());
  }
  FileBuilder number = FileBuilder::Bare(false, false);
  number.Header(0x20011003, "FL", 4).U32(std::bit_cast<std::uint32_t>(650.0f));
  const auto philips = Read(Mr({write.Text(0x20010010, "LO", "Philips Imaging DD 001"), number}));
  EXPECT_EQ(philips.diffusion_b_value(), 650);
}

TEST(DiffusionTest, PrivateValuesNeedTheirCreatorAndGiveWayToStandardOnes) {
  const EnhancedWriter write(SequenceStyle{});
  const FileBuilder value = write.Text(0x0019100C, "IS", "1000");
  EXPECT_FALSE(Read(Mr({value})).has_diffusion_b_value());
  EXPECT_FALSE(Read(Mr({write.Text(0x00190010, "LO", "SOMEBODY ELSE"), value})).has_diffusion_b_value());
  EXPECT_FALSE(Read(Mr({write.Text(0x00190011, "LO", "SIEMENS MR HEADER"), value})).has_diffusion_b_value());
  const auto both =
      Read(Mr({write.Fd(0x00189087, {500}), write.Text(0x00190010, "LO", "SIEMENS MR HEADER"), value}));
  EXPECT_EQ(both.diffusion_b_value(), 500);
  for (const std::string_view wrong : {"-5", "1e9", "x"}) {
    const auto header =
        Read(Mr({write.Text(0x00190010, "LO", "SIEMENS MR HEADER"), write.Text(0x0019100C, "IS", wrong)}));
    EXPECT_FALSE(header.has_diffusion_b_value()) << wrong;
  }
}

TEST(PrivateScalingTest, IsReportedAndNotUsed) {
  const EnhancedWriter write(SequenceStyle{});
  FileBuilder slope = FileBuilder::Bare(false, false);
  slope.Header(0x2005100E, "FL", 4).U32(std::bit_cast<std::uint32_t>(0.01f));
  const auto mr = Read(Mr({write.Text(0x20050010, "LO", "Philips MR Imaging DD 001"), slope,
                           write.Text(0x00281052, "DS", "0"), write.Text(0x00281053, "DS", "2.5")}));
  EXPECT_EQ(mr.rescale_slope(), 2.5);
  EXPECT_THAT(Repairs(mr), ElementsAre("PRIVATE_SCALING_UNUSED(2005,100E)"));
  EXPECT_THAT(Repairs(Read(Mr({slope}))), IsEmpty());
  const auto pet = Read(Image(
      "PT", "1.2.840.10008.5.1.4.1.1.128",
      {write.Text(0x70530010, "LO", "Philips PET Private Group"), write.Text(0x70531000, "DS", "0.000587")}));
  EXPECT_THAT(Repairs(pet), ElementsAre("PRIVATE_SCALING_UNUSED(7053,1000)"));
}

TEST(ModalityLutTest, AnImageWithATableIsNoPartOfAVolume) {
  for (const auto syntax : {kExplicitLittleEndian, kImplicitLittleEndian}) {
    for (const bool defined : {false, true}) {
      const EnhancedWriter write(SequenceStyle{syntax, defined, false});
      FileBuilder file = FileBuilder::WithMeta(syntax);
      file.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.1").Text(0x00080060, "CS", "CR");
      file.Pixels(2, 2, 16, 16, 15, false);
      file.Raw(write.Group(0x00283000, {write.Us(0x00283002, 256)}).bytes());
      const auto header = Read(EnhancedWriter::AddPixels(file, 1));
      EXPECT_EQ(header.kind(), ipc::v1::OBJECT_KIND_PICTURE) << syntax << defined;
      EXPECT_EQ(header.stored_type(), ipc::v1::STORED_TYPE_UNSPECIFIED);
      EXPECT_THAT(Repairs(header), ElementsAre("MODALITY_LUT(0028,3000)"));
    }
  }
}

TEST(ModalityLutTest, AnEmptySequenceIsNoTableInAnyEncoding) {
  for (const auto syntax : {kExplicitLittleEndian, kImplicitLittleEndian}) {
    for (const bool defined : {false, true}) {
      for (const bool hidden : {false, true}) {
        if (hidden && syntax == kImplicitLittleEndian) continue;
        const EnhancedWriter write(SequenceStyle{syntax, defined, false});
        const auto read = [&](const std::vector<FileBuilder>& items) {
          FileBuilder file = FileBuilder::WithMeta(syntax);
          file.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2").Text(0x00080060, "CS", "CT");
          file.Pixels(2, 2, 16, 16, 15, false);
          if (hidden) {
            EnhancedWriter(SequenceStyle{syntax, defined, true}).AddGroups(file, 0x00283000, items);
          } else {
            file.Raw(write.Sequence(0x00283000, items).bytes());
          }
          return Read(EnhancedWriter::AddPixels(file, 1));
        };
        const auto empty = read({});
        EXPECT_EQ(empty.kind(), ipc::v1::OBJECT_KIND_IMAGE) << syntax << defined << hidden;
        EXPECT_THAT(Repairs(empty), IsEmpty());
        // An item whose values somebody took out.
        EXPECT_EQ(read({write.Item()}).kind(), ipc::v1::OBJECT_KIND_PICTURE) << syntax << defined << hidden;
      }
    }
  }
}

}  // namespace
}  // namespace tomoserve::dicom
