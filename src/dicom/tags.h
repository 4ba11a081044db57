// Tags (PS3.6) that this room reads, as group << 16 | element.
#pragma once

#include <cstdint>

namespace tomoserve::dicom::tag {

inline constexpr std::uint32_t kTransferSyntaxUid = 0x00020010;
inline constexpr std::uint32_t kSpecificCharacterSet = 0x00080005;
inline constexpr std::uint32_t kImageType = 0x00080008;
inline constexpr std::uint32_t kSopClassUid = 0x00080016;
inline constexpr std::uint32_t kSopInstanceUid = 0x00080018;
inline constexpr std::uint32_t kStudyDate = 0x00080020;
inline constexpr std::uint32_t kStudyTime = 0x00080030;
inline constexpr std::uint32_t kAcquisitionTime = 0x00080032;
inline constexpr std::uint32_t kAccessionNumber = 0x00080050;
inline constexpr std::uint32_t kIssuerOfAccessionNumberSequence = 0x00080051;
inline constexpr std::uint32_t kModality = 0x00080060;
inline constexpr std::uint32_t kManufacturer = 0x00080070;
inline constexpr std::uint32_t kInstitutionName = 0x00080080;
inline constexpr std::uint32_t kTimezoneOffset = 0x00080201;
inline constexpr std::uint32_t kStationName = 0x00081010;
inline constexpr std::uint32_t kSeriesDescription = 0x0008103E;
inline constexpr std::uint32_t kPatientName = 0x00100010;
inline constexpr std::uint32_t kPatientId = 0x00100020;
inline constexpr std::uint32_t kIssuerOfPatientId = 0x00100021;
inline constexpr std::uint32_t kPatientBirthDate = 0x00100030;
inline constexpr std::uint32_t kPatientSex = 0x00100040;
inline constexpr std::uint32_t kPatientAge = 0x00101010;
inline constexpr std::uint32_t kContrastAgent = 0x00180010;
inline constexpr std::uint32_t kBodyPart = 0x00180015;
inline constexpr std::uint32_t kSliceThickness = 0x00180050;
inline constexpr std::uint32_t kKvp = 0x00180060;
inline constexpr std::uint32_t kEchoTime = 0x00180081;
inline constexpr std::uint32_t kEchoNumbers = 0x00180086;
inline constexpr std::uint32_t kProtocolName = 0x00181030;
inline constexpr std::uint32_t kTriggerTime = 0x00181060;
inline constexpr std::uint32_t kGantryTilt = 0x00181120;
inline constexpr std::uint32_t kConvolutionKernel = 0x00181210;
inline constexpr std::uint32_t kDiffusionBValue = 0x00189087;
inline constexpr std::uint32_t kContributingEquipmentSequence = 0x0018A001;
inline constexpr std::uint32_t kStudyInstanceUid = 0x0020000D;
inline constexpr std::uint32_t kSeriesInstanceUid = 0x0020000E;
inline constexpr std::uint32_t kSeriesNumber = 0x00200011;
inline constexpr std::uint32_t kAcquisitionNumber = 0x00200012;
inline constexpr std::uint32_t kInstanceNumber = 0x00200013;
inline constexpr std::uint32_t kImagePosition = 0x00200032;
inline constexpr std::uint32_t kImageOrientation = 0x00200037;
inline constexpr std::uint32_t kFrameOfReferenceUid = 0x00200052;
inline constexpr std::uint32_t kTemporalPosition = 0x00200100;
inline constexpr std::uint32_t kSamplesPerPixel = 0x00280002;
inline constexpr std::uint32_t kPhotometric = 0x00280004;
inline constexpr std::uint32_t kNumberOfFrames = 0x00280008;
inline constexpr std::uint32_t kRows = 0x00280010;
inline constexpr std::uint32_t kColumns = 0x00280011;
inline constexpr std::uint32_t kPixelSpacing = 0x00280030;
inline constexpr std::uint32_t kBitsAllocated = 0x00280100;
inline constexpr std::uint32_t kBitsStored = 0x00280101;
inline constexpr std::uint32_t kHighBit = 0x00280102;
inline constexpr std::uint32_t kPixelRepresentation = 0x00280103;
inline constexpr std::uint32_t kPixelPaddingValue = 0x00280120;
inline constexpr std::uint32_t kRescaleIntercept = 0x00281052;
inline constexpr std::uint32_t kRescaleSlope = 0x00281053;
inline constexpr std::uint32_t kRescaleType = 0x00281054;
inline constexpr std::uint32_t kLossyImageCompression = 0x00282110;
inline constexpr std::uint32_t kLossyRatio = 0x00282112;
inline constexpr std::uint32_t kLocalNamespaceEntityId = 0x00400031;
inline constexpr std::uint32_t kRequestAttributesSequence = 0x00400275;
inline constexpr std::uint32_t kRequestedProcedureId = 0x00401001;
inline constexpr std::uint32_t kPlacerOrderNumber = 0x00402016;
inline constexpr std::uint32_t kFillerOrderNumber = 0x00402017;
inline constexpr std::uint32_t kPixelData = 0x7FE00010;
inline constexpr std::uint32_t kItem = 0xFFFEE000;
inline constexpr std::uint32_t kItemEnd = 0xFFFEE00D;
inline constexpr std::uint32_t kSequenceEnd = 0xFFFEE0DD;

}  // namespace tomoserve::dicom::tag
